"""Which entries of the columns an index shows, in which order: composed lazily, decided when first asked for."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from s3torch.datasets.index._columns import Columns, Positions
from s3torch.datasets.index._filter import Filter
from s3torch.datasets.index._shared import Pieces, SharedArrays

__all__ = ["Filtered", "Selection", "positions_of", "settle", "share_positions"]


class Filtered:
    """What a filter keeps of a selection.

    Args:
        source: The selection.
        kept: The filter.
    """

    __slots__ = ("kept", "source")

    def __init__(self, source: Selection, kept: Filter) -> None:
        self.source = source
        self.kept = kept


Selection: TypeAlias = "range | SharedArrays | Filtered"


def settle(columns: Columns, selection: Selection) -> range | SharedArrays:
    """Apply the filters of a selection.

    Args:
        columns: The entries.
        selection: Which of them.
    """
    if not isinstance(selection, Filtered):
        return selection
    source = settle(columns, selection.source)
    kept = selection.kept.apply(columns, positions_of(source))
    if len(kept) == len(source if isinstance(source, range) else source["positions"]):
        return source
    return share_positions(kept)


def positions_of(selection: range | SharedArrays) -> Positions:
    """Return the positions in the columns."""
    return selection if isinstance(selection, range) else selection["positions"]


def share_positions(positions: npt.NDArray[np.int64]) -> SharedArrays:
    """Keep positions where all processes see them, in no more bytes than they need."""
    kind = np.uint32 if int(positions.max(initial=0)) <= np.iinfo(np.uint32).max else np.int64
    return SharedArrays({"positions": Pieces.of(positions.astype(kind))})
