"""Which entries of an index to keep: decided on columns, and on objects only where a function of the user's asks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from s3torch.client import S3BucketKeyData
from s3torch.datasets.index._chunks import UNKNOWN
from s3torch.datasets.index._columns import Columns, Positions, runs

__all__ = ["Filter"]

_LONGEST_BUCKET = 256  # with its slash, by "Bucket naming rules"; those of before 2018 have up to 255 characters


@dataclass(frozen=True, slots=True)
class Filter:
    """What an entry must have, all of it."""

    suffixes: tuple[str, ...] | None = None
    """One of these ends its key."""
    glob: str | None = None
    """The pattern that its whole key matches, as `fnmatch.fnmatchcase` reads it."""
    min_size: int | None = None
    """Bytes that it has at least."""
    max_size: int | None = None
    """Bytes that it has at most."""
    predicate: Callable[[S3BucketKeyData], object] | None = None
    """True of it."""

    def apply(self, columns: Columns, positions: Positions) -> npt.NDArray[np.int64]:
        """Return those of the positions that the filter keeps.

        Raises:
            ValueError: It asks for sizes that are not known.
        """
        kept = [found for run in runs(positions) if len(found := self._keep(columns, run))]
        return np.concatenate(kept) if kept else np.zeros(0, np.int64)

    def _keep(self, columns: Columns, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self.min_size is not None or self.max_size is not None:
            positions = self._keep_sizes(columns, positions)
        if self.suffixes is not None and len(positions):
            positions = positions[self._have_suffix(columns, positions, self.suffixes)]
        if self.glob is not None and len(positions):
            matches = re.compile(fnmatch.translate(self.glob)).match
            positions = _pick(positions, (matches(key) is not None for key in columns.keys(positions)))
        if self.predicate is not None and len(positions):
            positions = _pick(positions, map(bool, map(self.predicate, columns.items(positions))))
        return positions

    def _keep_sizes(self, columns: Columns, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        sizes = columns.sizes(positions)
        if (sizes == UNKNOWN).any():
            raise ValueError("the index does not know the sizes of all its objects: make it by listing a prefix")
        is_kept = np.ones(len(sizes), np.bool_)
        if self.min_size is not None:
            is_kept &= sizes >= self.min_size
        if self.max_size is not None:
            is_kept &= sizes <= self.max_size
        return positions[is_kept]

    @staticmethod
    def _have_suffix(
        columns: Columns, positions: npt.NDArray[np.int64], suffixes: tuple[str, ...]
    ) -> npt.NDArray[np.bool_]:
        """Compare the last bytes of all at once; the short ones, of which a part is in the prefix, one by one."""
        starts, lengths = columns.spans(positions)
        text = columns.arrays["text"]
        found = np.zeros(len(positions), np.bool_)
        is_short = np.zeros(len(positions), np.bool_)
        for suffix in suffixes:
            wanted = np.frombuffer(suffix.encode(), np.uint8)
            # Where the bucket is in the text, too, it must not be taken for a part of the key.
            is_long = lengths >= len(wanted) + (0 if b"/" in columns.prefix else _LONGEST_BUCKET)
            is_short |= ~is_long
            ends = (starts + lengths)[is_long]
            tails = text[(ends - len(wanted))[:, None] + np.arange(len(wanted))]
            found[is_long] |= (tails == wanted).all(axis=1)
        if is_short.any():
            keys = columns.keys(positions[is_short])
            found[is_short] |= np.fromiter((key.endswith(suffixes) for key in keys), np.bool_, int(is_short.sum()))
        return found


def _pick(positions: npt.NDArray[np.int64], are_kept: Iterator[bool]) -> npt.NDArray[np.int64]:
    return np.fromiter(compress(positions.tolist(), are_kept), np.int64)
