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

    What all texts begin with counts once: it, too, follows from the sequence alone.

    Args:
        columns: Where the entries are.
        positions: Which, and in which order.
    """
    digest = hashlib.blake2b(digest_size=8)
    common = _common(columns, positions)
    if len(positions):
        digest.update(b"%d %b\n" % (len(columns.prefix) + len(common), columns.prefix + common))
    for run in runs(positions):
        starts, lengths = columns.spans(run)
        digest.update((lengths - len(common)).astype("<u4").tobytes())
        if not common and (starts[1:] == starts[:-1] + lengths[:-1]).all():
            digest.update(columns.arrays["text"][int(starts[0]) : int(starts[-1] + lengths[-1])].tobytes())
        else:
            digest.update(b"".join([text[len(common) :] for text in columns.texts(run)]))
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


def _common(columns: Columns, positions: Positions) -> bytes:
    """Return what the texts of all have in common beyond the columns' prefix: something, if they are but a few."""
    common: bytes | None = None
    for run in runs(positions):
        if common is None:
            common = columns.texts(run[:1])[0]
        starts, lengths = columns.spans(run)
        common = common[: int(lengths.min())]
        if not common:
            break
        rows: Array = columns.arrays["text"][starts[:, None] + np.arange(len(common))]
        differs = (rows != np.frombuffer(common, np.uint8)).any(axis=0)
        common = common[: int(differs.argmax())] if differs.any() else common
    return common or b""
