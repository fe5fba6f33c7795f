"""From chunks to columns: widths are chosen when all is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from s3torch.datasets.index._chunks import Chunk, common_prefix, compact
from s3torch.datasets.index._columns import BLOCK, Columns
from s3torch.datasets.index._numbers import Narrowing, write_narrow
from s3torch.datasets.index._shared import Array, Pieces, SharedArrays

__all__ = ["build"]

# Bytes that an entry may take beside its key, once there are many. What is asked for least often, the time of change,
# gives way.
_BUDGET = 24
_MANY = 65_536


def build(chunks: Iterable[Chunk]) -> Columns:
    """Make the columns of all entries of the chunks, in order."""
    given = [chunk for chunk in chunks if len(chunk.lengths)]
    heads = {chunk.head for chunk in given}
    if len(heads) > 1:
        given = [_spell_out(chunk) for chunk in given]
        heads = {b""}
    head = next(iter(heads), b"")
    common = common_prefix([chunk.common for chunk in given])
    count = sum(len(chunk.lengths) for chunk in given)
    longest = max((int(chunk.lengths.max()) for chunk in given), default=0) - len(common)
    padded = np.zeros(-(-count // BLOCK) * BLOCK, np.min_scalar_type(longest))
    at = 0
    for chunk in given:
        padded[at : at + len(chunk.lengths)] = chunk.lengths - len(common)
        at += len(chunk.lengths)
    blocks = padded.reshape(-1, BLOCK).sum(axis=1, dtype=np.int64)
    text_size = int(blocks.sum())
    offsets = (np.cumsum(blocks) - blocks).astype(np.min_scalar_type(text_size))
    sizes = Narrowing.of([chunk.sizes for chunk in given])
    parts = Narrowing.of([chunk.etags.parts for chunk in given])
    times: Narrowing | None = (narrowest := Narrowing.of([chunk.times for chunk in given]))
    classes, codes = _codes([(chunk.classes, len(chunk.lengths)) for chunk in given])
    places, odd = _odd(given)
    has_digests = len(places) < count
    if not has_digests and not any(odd):
        places, odd = places[:0], []
    spelled = [etag.encode() for etag in odd]
    byte = np.dtype(np.uint8)
    arrays = {
        "text": Pieces((text_size,), byte, (_cut(chunk, len(common)) for chunk in given)),
        "offsets": Pieces.of(offsets),
        "lengths": Pieces.of(padded),
        "sizes": _narrow(count, [chunk.sizes for chunk in given], sizes),
        "digests": Pieces((count * has_digests, 16), byte, (chunk.etags.digests for chunk in given if has_digests)),
        "parts": _narrow(count, [chunk.etags.parts for chunk in given], parts),
        "classes": Pieces.of(codes),
        "odd_places": Pieces.of(places.astype(np.min_scalar_type(count))),
        "odd_lengths": Pieces.of(np.array([len(etag) for etag in spelled], np.uint16)),
        "odd_text": Pieces.of(np.frombuffer(b"".join(spelled), np.uint8)),
    }
    taken = sum(pieces.nbytes for name, pieces in arrays.items() if name not in ("text", "offsets"))
    each = (taken - (len(padded) - count) * padded.itemsize) / max(1, count) + offsets.itemsize / BLOCK
    if count >= _MANY and each - len(common) + narrowest.width > _BUDGET:
        times = None
    arrays["times"] = _narrow(count, [chunk.times for chunk in given], times or Narrowing(0, 0))
    shared = SharedArrays(arrays)
    return Columns(head + common, shared, count=count, sizes=sizes, parts=parts, times=times, classes=classes)


def _narrow(count: int, pieces: Sequence[Array], narrowing: Narrowing) -> Pieces:
    return Pieces((count, narrowing.width), np.dtype(np.uint8), (write_narrow(piece, narrowing) for piece in pieces))


def _cut(chunk: Chunk, size: int) -> Array:
    """Return a chunk's text without the first ``size`` bytes of each entry."""
    if not size:
        return chunk.text
    lengths = chunk.lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    is_kept = np.ones(len(chunk.text), np.bool_)
    is_kept[(starts[:, None] + np.arange(size)).reshape(-1)] = False
    return chunk.text[is_kept]


def _spell_out(chunk: Chunk) -> Chunk:
    """Return a chunk that has no head: its entries lie in other buckets than those of other chunks."""
    if not chunk.head:
        return chunk
    ends = np.cumsum(chunk.lengths).tolist()
    text = chunk.text.tobytes()
    texts = [chunk.head + text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return replace(
        chunk,
        head=b"",
        text=np.frombuffer(b"".join(texts), np.uint8),
        lengths=compact(chunk.lengths.astype(np.int64) + len(chunk.head)),
        common=chunk.head + chunk.common,
    )


def _codes(columns: Sequence[tuple[Sequence[str | None], int]]) -> tuple[list[str | None], Array]:
    """Number the storage classes; no column where there is but one."""
    numbers: dict[str | None, int] = {}
    for classes, _ in columns:
        for name in dict.fromkeys(classes):
            numbers.setdefault(name, len(numbers))
    names = list(numbers) or [None]
    if len(names) == 1:
        return names, np.zeros(0, np.uint8)
    kind = np.min_scalar_type(len(names) - 1)
    pieces = [
        np.full(count, numbers[classes[0]], kind)
        if len(classes) == 1
        else np.fromiter((numbers[name] for name in classes), kind, count)
        for classes, count in columns
    ]
    return names, np.concatenate(pieces)


def _odd(chunks: Sequence[Chunk]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the places and texts of all entity tags of another form."""
    places: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    odd: list[str] = []
    at = 0
    for chunk in chunks:
        if len(chunk.etags.odd_places):
            places.append(chunk.etags.odd_places + at)
            odd += chunk.etags.odd
        at += len(chunk.lengths)
    return np.concatenate(places), odd
