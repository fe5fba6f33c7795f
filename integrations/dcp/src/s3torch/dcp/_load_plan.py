"""Which bytes of a file hold a box of a stored tensor's elements: pure arithmetic, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

__all__ = ["Box", "StoredTensor", "cut_box", "cut_dense", "select"]

_KIB = 1024
# Bytes between two runs of wanted ones that are rather skipped with another request than fetched and thrown away.
_GAP = 512 * _KIB
# A run so long is worth a request of its own, however near the next one is.
_RUN = 512 * _KIB


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's elements as a file holds them."""

    start: int
    """Byte of the file at which the element of index 0 begins."""
    dtype: torch.dtype
    """Type of the elements."""
    shape: tuple[int, ...]
    """Size of each dimension."""
    stride: tuple[int, ...]
    """Elements from one index to the next, for each dimension."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of elements, and the bytes from its first to its last one."""

    offsets: tuple[int, ...]
    """Index of the box's first element, for each dimension, in what was selected."""
    shape: tuple[int, ...]
    """Size of each dimension."""
    stride: tuple[int, ...]
    """Bytes from one index to the next, for each dimension."""
    start: int
    """Byte of the file at which the first element begins."""
    itemsize: int
    """Bytes of an element."""

    @property
    def end(self) -> int:
        """Byte of the file after the last element."""
        return self.start + _span(self.shape, self.stride, self.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements alone."""
        return math.prod(self.shape) * self.itemsize

    @property
    def order(self) -> tuple[int, ...]:
        """The dimensions from the outermost to the innermost in the file."""
        # Where there is but one index, the stride says nothing: such dimensions may stand anywhere.
        return tuple(sorted(range(len(self.shape)), key=lambda d: (self.shape[d] != 1, -self.stride[d], d)))

    @property
    def is_dense(self) -> bool:
        """Whether the elements follow each other without gap or overlap, in `order`."""
        following = self.itemsize
        for dimension in reversed(self.order):
            if self.shape[dimension] != 1:
                if self.stride[dimension] != following:
                    return False
                following *= self.shape[dimension]
        return True

    def part(self, dimension: int, first: int, count: int) -> Box:
        """Return the box of some indices of one dimension."""
        return replace(
            self,
            offsets=_put(self.offsets, dimension, self.offsets[dimension] + first),
            shape=_put(self.shape, dimension, count),
            start=self.start + first * self.stride[dimension],
        )


def select(stored: StoredTensor, offsets: Sequence[int], lengths: Sequence[int]) -> Box:
    """Find a box of a stored tensor.

    Args:
        stored: The tensor.
        offsets: The box's first index, for each dimension.
        lengths: How many indices, for each dimension.

    Returns:
        The box.

    Raises:
        ValueError: The tensor has other dimensions or ends before the box does.
    """
    is_inside = len(offsets) == len(lengths) == len(stored.shape) and all(
        offset >= 0 <= length and offset + length <= size
        for offset, length, size in zip(offsets, lengths, stored.shape, strict=True)
    )
    if not is_inside:
        raise ValueError(
            f"{tuple(lengths)} elements at {tuple(offsets)} are wanted, the stored tensor has {stored.shape}"
        )
    itemsize = stored.dtype.itemsize
    stride = tuple(step * itemsize for step in stored.stride)
    start = stored.start + sum(offset * step for offset, step in zip(offsets, stride, strict=True))
    return Box((0,) * len(lengths), tuple(lengths), stride, start, itemsize)


def cut_box(box: Box, longest: int) -> Iterator[Box]:
    """Cut a box into boxes that are each worth one range of the file.

    Elements without gaps are one box, however many. Elsewhere those that are far apart, or many in a row, are left
    apart; what is near to each other is put together, up to a length.

    Args:
        box: The box.
        longest: Bytes of the file that a box with gaps may span, unless a single run is longer.

    Yields:
        The boxes, which together have each element once; none for a box without elements.
    """
    if not box.nbytes:
        return
    if box.is_dense:
        yield box
        return
    outer = next(dimension for dimension in box.order if box.shape[dimension] != 1)
    row = box.part(outer, 0, 1)
    length, step = row.end - row.start, box.stride[outer]
    if not _has_small_gaps(box):
        rows = 1
    else:
        rows = 1 if length >= longest else 1 + (longest - length) // max(step, 1)
    if rows == 1:
        for index in range(box.shape[outer]):
            yield from cut_box(box.part(outer, index, 1), longest)
        return
    for first in range(0, box.shape[outer], rows):
        yield box.part(outer, first, min(rows, box.shape[outer] - first))


def cut_dense(box: Box, longest: int) -> Iterator[Box]:
    """Cut a box without gaps into shorter ones.

    Args:
        box: The box, with at least one element.
        longest: Bytes of a box at most, unless one element is longer.

    Yields:
        The boxes, in the file's order.
    """
    if box.nbytes <= longest or box.nbytes == box.itemsize:
        yield box
        return
    outer = next(dimension for dimension in box.order if box.shape[dimension] != 1)
    rows = longest // box.stride[outer]
    if not rows:
        for index in range(box.shape[outer]):
            yield from cut_dense(box.part(outer, index, 1), longest)
        return
    for first in range(0, box.shape[outer], rows):
        yield box.part(outer, first, min(rows, box.shape[outer] - first))


def _has_small_gaps(box: Box) -> bool:
    """Whether all gaps between the runs are small beside a request, and so are the runs."""
    span = box.itemsize
    for dimension in reversed(box.order):
        if box.shape[dimension] == 1:
            continue
        gap = box.stride[dimension] - span
        if gap >= _GAP or (gap > 0 and span >= _RUN):
            return False
        span += (box.shape[dimension] - 1) * box.stride[dimension]
    return True


def _span(shape: Sequence[int], stride: Sequence[int], itemsize: int) -> int:
    if 0 in shape:
        return 0
    return sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + itemsize


def _put(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])
