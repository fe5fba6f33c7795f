"""One number for a sequence of objects: the same objects in the same order have the same, however they are stored."""

from __future__ import annotations

import hashlib

import numpy as np

from s3torch.datasets.index._columns import Columns, Positions, runs
from s3torch.datasets.index._shared import Array

__all__ = ["fingerprint"]

_NO_ETAG = -1


def fingerprint(columns: Columns, positions: Positions) -> str:
    """Return the BLAKE2b of buckets, keys, sizes and ETags, in order, as 16 hexadecimal digits.

    Args:
        columns: Where the entries are.
        positions: Which, and in which order.
    """
    digest = hashlib.blake2b(digest_size=8)
    for run in runs(positions):
        starts, lengths = columns.spans(run)
        digest.update((lengths + len(columns.prefix)).astype("<u4").tobytes())
        digest.update(_whole_text(columns, run, starts, lengths))
        digest.update(columns.sizes(run).astype("<i8").tobytes())
        parts = columns.parts(run)
        if not columns.has_etags:
            parts[:] = _NO_ETAG
        places, odd = columns.odd_etags(run)
        parts[[place for place, etag in zip(places, odd, strict=True) if not etag]] = _NO_ETAG
        digest.update(parts.astype("<i4").tobytes())
        digest.update(columns.digests(run).tobytes())
        digest.update("".join(f"{place} {etag}\n" for place, etag in zip(places, odd, strict=True) if etag).encode())
    return digest.hexdigest()


def _whole_text(columns: Columns, positions: Array, starts: Array, lengths: Array) -> bytes:
    """Return the texts of entries with what all of them begin with, one after the other."""
    prefix = columns.prefix
    ends = starts + lengths
    if not (starts[1:] == ends[:-1]).all():
        texts = columns.texts(positions)
        return prefix + prefix.join(texts)
    head, first = len(prefix), int(starts[0])
    text = np.empty(int(lengths.sum()) + head * len(lengths), np.uint8)
    is_head = np.zeros(len(text), np.bool_)
    is_head[((starts - first + np.arange(len(starts)) * head)[:, None] + np.arange(head)).reshape(-1)] = True
    text[is_head] = np.tile(np.frombuffer(prefix, np.uint8), len(lengths))
    text[~is_head] = columns.arrays["text"][first : int(ends[-1])]
    return text.tobytes()
