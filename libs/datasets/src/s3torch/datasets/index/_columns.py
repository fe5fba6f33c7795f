"""The columns of an index: what is known of many objects, without a Python object for any of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s3torch.client import ObjectInfo, S3BucketKeyData
from s3torch.datasets.index._chunks import UNKNOWN
from s3torch.datasets.index._etags import format_etag
from s3torch.datasets.index._numbers import Narrowing, read_narrow, read_one
from s3torch.datasets.index._shared import Array, SharedArrays

__all__ = ["BLOCK", "Columns", "runs"]

BLOCK = 64
"""Entries between two offsets into the text."""
_RUN = 8192

Int64s = npt.NDArray[np.int64]
Positions = range | Int64s


def runs(positions: Positions, longest: int = _RUN) -> Iterator[Int64s]:
    """Give positions as arrays of moderate length.

    Args:
        positions: A range or an array.
        longest: How many in an array.
    """
    for start in range(0, len(positions), longest):
        run = positions[start : start + longest]
        if isinstance(run, range):
            yield np.arange(run.start, run.stop, run.step, dtype=np.int64)
        else:
            yield run.astype(np.int64, copy=False)


class Columns:
    """Entries in columns; read-only, and shared among processes as `SharedArrays` are.

    The text of an entry is ``bucket/key`` in UTF-8. What all have in common is kept once. Beside the rest of it, an
    entry takes the bytes of its length, 16 for the ETag, and as many as the largest needs for size, time of change,
    number of parts and storage class; there is an offset into the text for each 64 entries.

    Args:
        prefix: What the text of all entries begins with.
        arrays: ``text``, ``offsets``, ``lengths``, ``sizes``, ``digests``, ``parts``, ``times``, ``classes``,
            ``odd_places``, ``odd_lengths`` and ``odd_text``.
        count: How many entries there are.
        sizes: How their sizes are stored.
        parts: How their numbers of parts are.
        times: How their times of change are; None where there was no room for them.
        classes: The storage classes there are.
    """

    def __init__(
        self,
        prefix: bytes,
        arrays: SharedArrays,
        *,
        count: int,
        sizes: Narrowing,
        parts: Narrowing,
        times: Narrowing | None,
        classes: Sequence[str | None],
    ) -> None:
        self.prefix = prefix
        self.arrays = arrays
        self.count = count
        self._sizes = sizes
        self._parts = parts
        self._times = times
        self._classes = tuple(classes)
        self._view()

    def _view(self) -> None:
        arrays = self.arrays
        self._text: memoryview = memoryview(arrays["text"])  # type: ignore[arg-type]  # numpy's, before Python 3.12
        self._lengths: memoryview = memoryview(arrays["lengths"])  # type: ignore[arg-type]  # the same
        self._views = {name: _bytes_of(arrays[name]) for name in ("sizes", "digests", "parts", "times", "classes")}
        self._has_digests = len(arrays["digests"]) > 0
        self.has_etags = self._has_digests or len(arrays["odd_places"]) > 0
        self._odd_places = arrays["odd_places"]
        self._odd_ends = np.cumsum(arrays["odd_lengths"], dtype=np.int64)
        bucket, slash, rest = self.prefix.partition(b"/")
        self._bucket = bucket.decode() if slash else None
        self._key_prefix = rest

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the views."""
        kept = ("prefix", "arrays", "count", "_sizes", "_parts", "_times", "_classes")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    def item(self, position: int) -> S3BucketKeyData:
        """Return one entry; the position is a valid one."""
        first = position // BLOCK * BLOCK
        start = int(self.arrays["offsets"][position // BLOCK]) + sum(self._lengths[first:position])
        views = self._views
        digest = bytes(views["digests"][16 * position : 16 * position + 16]).hex() if self._has_digests else ""
        return self._make(
            self._text[start : start + self._lengths[position]],
            read_one(views["sizes"], position, self._sizes),
            self._odd_etag(position),
            digest,
            read_one(views["parts"], position, self._parts),
            0 if self._times is None else read_one(views["times"], position, self._times),
            self._classes[views["classes"][position] if len(self._classes) > 1 else 0],
        )

    def items(self, positions: Int64s) -> Iterator[S3BucketKeyData]:
        """Give entries; the positions are valid ones, and not too many."""
        arrays, text = self.arrays, self._text
        starts, lengths = self.spans(positions)
        digests = arrays["digests"][positions].tobytes().hex() if self._has_digests else ""
        classes = self._classes
        names = [classes[code] for code in arrays["classes"][positions].tolist()] if len(classes) > 1 else None
        columns = zip(
            starts.tolist(),
            (starts + lengths).tolist(),
            self.sizes(positions).tolist(),
            self.parts(positions).tolist(),
            self.times(positions).tolist(),
            strict=True,
        )
        odd = self._odd_among(positions)
        for place, (start, end, size, parts, time) in enumerate(columns):
            digest = digests[32 * place : 32 * place + 32]
            name = classes[0] if names is None else names[place]
            yield self._make(text[start:end], size, odd.get(place), digest, parts, time, name)

    def texts(self, positions: Int64s) -> list[bytes]:
        """Return the text of entries, without `prefix`."""
        starts, lengths = self.spans(positions)
        text = self._text
        return [bytes(text[start:end]) for start, end in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]

    def keys(self, positions: Int64s) -> Iterator[str]:
        """Give keys, without the buckets they lie in."""
        for text in self.texts(positions):
            if self._bucket is not None:
                yield (self._key_prefix + text).decode()
            else:
                yield (self.prefix + text).partition(b"/")[2].decode()

    def spans(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Return where in the text entries begin, and how long they are there."""
        lengths = self.arrays["lengths"]
        blocks, within = np.divmod(positions, BLOCK)
        offsets = self.arrays["offsets"]
        count = len(positions)
        if count and positions[-1] - positions[0] == count - 1 and (count < 3 or (np.diff(positions) == 1).all()):
            first, last = int(positions[0]), int(positions[-1])
            aligned = first - int(within[0])
            ends = int(offsets[blocks[0]]) + np.cumsum(lengths[aligned : last + 1], dtype=np.int64)
            found = lengths[first : last + 1].astype(np.int64)
            return ends[first - aligned :] - found, found
        rows = lengths.reshape(-1, BLOCK)[blocks]
        ends = np.cumsum(rows, axis=1, dtype=np.int64)
        places = np.arange(count)
        found = rows[places, within].astype(np.int64)
        return offsets[blocks].astype(np.int64) + ends[places, within] - found, found

    def sizes(self, positions: Int64s) -> Int64s:
        """Return sizes in bytes; -1 where nothing is known of an object."""
        return read_narrow(self.arrays["sizes"][positions], self._sizes)

    def parts(self, positions: Int64s) -> Int64s:
        """Return numbers of parts; 0 where an entity tag names none."""
        return read_narrow(self.arrays["parts"][positions], self._parts)

    def times(self, positions: Int64s) -> Int64s:
        """Return times of last change, in seconds since the epoch; 0 where it is not kept."""
        if self._times is None:
            return np.zeros(len(positions), np.int64)
        return read_narrow(self.arrays["times"][positions], self._times)

    def digests(self, positions: Int64s) -> Array:
        """Return 16 bytes of each entity tag; zeros where it has another form."""
        return self.arrays["digests"][positions] if self._has_digests else np.zeros((len(positions), 16), np.uint8)

    def odd_etags(self, positions: Int64s) -> tuple[list[int], list[str]]:
        """Return which of the positions have entity tags of another form, as places among them, and those."""
        odd = self._odd_among(positions)
        return list(odd), list(odd.values())

    def _make(
        self,
        text: memoryview,
        size: int,
        odd: str | None,
        digest: str,
        parts: int,
        time: int,
        storage_class: str | None,
    ) -> S3BucketKeyData:
        if self._bucket is not None:
            bucket, key = self._bucket, (self._key_prefix + text).decode()
        else:
            bucket, _, key = (self.prefix + text).decode().partition("/")
        if size == UNKNOWN:
            return S3BucketKeyData(bucket, key)
        etag = odd if odd is not None else format_etag(digest, parts) if digest else ""
        return S3BucketKeyData(bucket, key, ObjectInfo(key, etag, size, time, storage_class))

    def _odd_etag(self, position: int) -> str | None:
        if not len(self._odd_places):
            return None
        at = bisect_left(self._odd_places, position)
        return self._odd_at(at) if at < len(self._odd_places) and self._odd_places[at] == position else None

    def _odd_at(self, at: int) -> str:
        end = int(self._odd_ends[at])
        start = int(self._odd_ends[at - 1]) if at else 0
        return self.arrays["odd_text"][start:end].tobytes().decode()

    def _odd_among(self, positions: Int64s) -> dict[int, str]:
        if not len(self._odd_places):
            return {}
        found = np.searchsorted(self._odd_places, positions)
        is_odd = self._odd_places[np.minimum(found, len(self._odd_places) - 1)] == positions
        return {int(place): self._odd_at(int(found[place])) for place in np.flatnonzero(is_odd)}


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1)) if array.size else memoryview(b"")  # type: ignore[arg-type]  # the same
