"""Copies within the store: in one request up to 5 GiB, in parts above."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from s3torch.client.parallel import plan_parts
from s3torch.client.protocols import Copies, Heads, Multiparts
from s3torch.client.values import CopyResult, GetRequest, PutOptions

__all__ = ["CopyEngine", "copy_object"]

_GIB = 1024**3
_LARGEST_COPY = 5 * _GIB  # by the API page of CopyObject
_PART = _GIB


class CopyEngine(Copies, Heads, Multiparts, Protocol):
    """What copying needs of an engine."""


def copy_object(
    engine: CopyEngine,
    source: GetRequest,
    bucket: str,
    key: str,
    options: PutOptions,
    *,
    largest_copy: int = _LARGEST_COPY,
    part_size: int = _PART,
) -> CopyResult:
    """Copy a whole object.

    Args:
        engine: Where source and copy lie.
        source: The object to copy.
        bucket: The copy's bucket.
        key: The copy's key.
        options: What the copy's upload asks for, where it is made of parts.
        largest_copy: Bytes that one request copies at most.
        part_size: Bytes in a part of a larger copy.

    Returns:
        What the store said of the copy.

    Raises:
        S3Exception: The copy failed; no parts remain.
    """
    head = engine.head(source.bucket, source.key)
    source = replace(source, etag=head.etag, size=head.size)
    if head.size <= largest_copy:
        return engine.copy(source, bucket, key, options)
    if not options.metadata:
        options = replace(options, metadata=head.metadata)  # one request would copy it
    upload = engine.create_multipart(bucket, key, options)
    try:
        parts = [
            engine.copy_part(bucket, key, upload, number, replace(source, start=start, end=end))
            for number, (start, end) in enumerate(plan_parts(0, head.size, part_size), start=1)
        ]
        return CopyResult(engine.complete_multipart(bucket, key, upload, parts, options).etag)
    except BaseException:
        engine.abort_multipart(bucket, key, upload)
        raise
