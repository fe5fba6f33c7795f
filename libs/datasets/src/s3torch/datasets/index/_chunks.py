"""From lists of keys to arrays, a chunk at a time: what columns are built of."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from s3torch.client import ObjectInfo, S3BucketKeyData
from s3torch.datasets.index._etags import ETags, read_etags
from s3torch.datasets.index._shared import Array

__all__ = ["UNKNOWN", "Chunk", "chunks_of", "common_prefix", "compact", "join_chunks", "make_chunk"]

UNKNOWN = -1
"""The size of an object of which nothing is known."""
_CHUNK = 16_384
_TYPES = (np.uint8, np.uint16, np.uint32, np.int32)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of entries in arrays."""

    head: bytes
    """What the text of each begins with, before what is in ``text``."""
    text: Array
    """The rest of each entry's ``bucket/key`` in UTF-8, one after the other."""
    lengths: Array
    """Bytes of each in ``text``; like all numbers here in the narrowest type that has them."""
    common: bytes
    """What all in ``text`` begin with."""
    sizes: Array
    """Sizes in bytes; `UNKNOWN` where nothing is known of the object."""
    etags: ETags
    """Their entity tags."""
    times: Array
    """When they were last changed, in seconds since the epoch."""
    classes: Sequence[str | None]
    """Their storage classes; one for all where all are the same."""


def make_chunk(
    head: bytes,
    texts: Sequence[bytes],
    sizes: Sequence[int],
    etags: Sequence[str],
    times: Sequence[int],
    classes: Sequence[str | None],
) -> Chunk:
    """Put the entries of a chunk, one at least, into arrays.

    Args:
        head: What all begin with: ``bucket/`` where they have one in common.
        texts: The rest of each.
        sizes: Their sizes.
        etags: Their entity tags.
        times: When they were last changed.
        classes: Their storage classes.
    """
    count = len(texts)
    return Chunk(
        head,
        np.frombuffer(b"".join(texts), np.uint8),
        compact(np.fromiter(map(len, texts), np.int64, count)),
        common_prefix([min(texts), max(texts)]),
        compact(np.array(sizes, np.int64)),
        read_etags(etags),
        compact(np.array(times, np.int64)),
        classes[:1] if classes.count(classes[0]) == count else classes,
    )


def compact(numbers: Array) -> Array:
    """Return numbers in the narrowest type that has them all."""
    least, most = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    for kind in _TYPES:
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return numbers.astype(kind)
    return numbers


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Put chunks that follow one another into one: small arrays by the thousand tear memory to pieces.

    Args:
        chunks: One at least; all have the same head.
    """
    lengths = [len(chunk.lengths) for chunk in chunks]
    starts = [sum(lengths[:place]) for place in range(len(chunks))]
    names = {name for chunk in chunks for name in chunk.classes}
    return Chunk(
        chunks[0].head,
        np.concatenate([chunk.text for chunk in chunks]),
        np.concatenate([chunk.lengths for chunk in chunks]),
        common_prefix([chunk.common for chunk in chunks]),
        np.concatenate([chunk.sizes for chunk in chunks]),
        ETags(
            np.concatenate([chunk.etags.digests for chunk in chunks]),
            np.concatenate([chunk.etags.parts for chunk in chunks]),
            np.concatenate([chunk.etags.odd_places + start for chunk, start in zip(chunks, starts, strict=True)]),
            [etag for chunk in chunks for etag in chunk.etags.odd],
        ),
        np.concatenate([chunk.times for chunk in chunks]),
        list(names)
        if len(names) == 1
        else [
            name
            for chunk, count in zip(chunks, lengths, strict=True)
            for name in (chunk.classes if len(chunk.classes) > 1 else [*chunk.classes] * count)
        ],
    )


def common_prefix(texts: Sequence[bytes]) -> bytes:
    """Return what all texts begin with; nothing where there are none."""
    return os.path.commonprefix(texts) if texts else b""  # type: ignore[return-value]  # noqa: RUF071  # no paths


def chunks_of(items: Iterable[S3BucketKeyData]) -> Iterator[Chunk]:
    """Put any number of entries into chunks.

    Args:
        items: The entries.

    Raises:
        TypeError: One is no `S3BucketKeyData`.
        ValueError: One has no bucket or no key, or one that cannot be written in UTF-8.
    """
    source = iter(items)
    while batch := list(islice(source, _CHUNK)):
        yield _chunk_of(batch)


def _chunk_of(batch: Sequence[S3BucketKeyData]) -> Chunk:
    for item in batch:
        _check(item)
    buckets = {item.bucket for item in batch}
    try:
        if len(buckets) == 1:
            head = f"{batch[0].bucket}/".encode()
            texts = [item.key.encode() for item in batch]
        else:
            head = b""
            texts = [f"{item.bucket}/{item.key}".encode() for item in batch]
    except UnicodeEncodeError as error:
        raise ValueError(f"keys are text that UTF-8 can say, got {error.object!r}") from None
    infos = [item.object_info for item in batch]
    return make_chunk(
        head,
        texts,
        [UNKNOWN if info is None else info.size for info in infos],
        ["" if info is None else info.etag for info in infos],
        [0 if info is None else info.last_modified for info in infos],
        [None if info is None else info.storage_class for info in infos],
    )


def _check(item: object) -> None:
    if not isinstance(item, S3BucketKeyData):
        raise TypeError(f"an index is made of S3BucketKeyData, got {type(item).__name__}")
    bucket, key, info = item
    if not all(isinstance(name, str) for name in (bucket, key)):
        raise TypeError(f"bucket and key must be str, got {type(bucket).__name__} and {type(key).__name__}")
    if not bucket or not key or "/" in bucket:
        raise ValueError(f"an object has a bucket without slashes and a key, got {bucket!r} and {key!r}")
    if isinstance(info, ObjectInfo) and info.key != key:
        raise ValueError(f"the information on {key!r} is that of another object: {info.key!r}")
    if info is not None and info.size < 0:
        raise ValueError(f"the size of {key!r} must not be negative, got {info.size}")
