"""Which bytes of a stored tensor a slice of it needs. Pure: no I/O.

The stored tensor is C-contiguous, and the slice is a box in it: an offset and a length along each dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Block", "c_strides", "plan_blocks"]

_KIB = 1024
# Bytes rather fetched than skipped: at the latency of S3, a request costs what so many bytes cost.
_LARGEST_GAP = 512 * _KIB
# Bytes of a block with gaps, which needs memory of its own.
_LARGEST_BLOCK = 4 * 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Block:
    """A range of stored bytes, and the part of the box it holds: rows ``first`` to ``last`` of ``box[index]``."""

    start: int
    """First byte, counted from the tensor's first byte."""
    end: int
    """Byte after the last."""
    index: tuple[int, ...]
    """Where in the box: an index for each of its first dimensions."""
    first: int
    """First row along the dimension after them; 0 if there is none."""
    last: int
    """Row after the last; 1 if there is no such dimension."""
    is_dense: bool
    """Whether the bytes are just those elements, in order; else there are others between them."""


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a C-contiguous tensor.

    Args:
        shape: Its shape.
    """
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def plan_blocks(shape: Sequence[int], itemsize: int, offsets: Sequence[int], lengths: Sequence[int]) -> list[Block]:
    """Choose the byte ranges to fetch for a box of a stored tensor.

    What lies together is one block. Rows with gaps between them share a block, which is read through its gaps, unless
    a gap is worth a request of its own.

    Args:
        shape: The stored tensor's shape.
        itemsize: Bytes of an element.
        offsets: Where the box begins, along each dimension.
        lengths: How far it goes.

    Returns:
        The blocks, in the order of their bytes; they do not overlap. None for an empty box.

    Raises:
        ValueError: The box is not inside the tensor.
    """
    if not len(shape) == len(offsets) == len(lengths) or any(
        offset < 0 or length < 0 or offset + length > size
        for size, offset, length in zip(shape, offsets, lengths, strict=True)
    ):
        raise ValueError(f"a box of {tuple(lengths)} at {tuple(offsets)} is not inside a tensor of {tuple(shape)}")
    if not math.prod(lengths):
        return []
    strides = tuple(stride * itemsize for stride in c_strides(shape))
    base = sum(offset * stride for offset, stride in zip(offsets, strides, strict=True))
    return list(_Cutter(tuple(lengths), strides, itemsize).cut((), base))


class _Cutter:
    """Cuts a box into blocks, one dimension after the other."""

    def __init__(self, lengths: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> None:
        self._lengths = lengths
        self._strides = strides
        # For the box's last dimensions, from each on: from the first byte to the last, bytes of its elements, and the
        # largest gap between two of them.
        self._spans, self._sizes, self._gaps = [itemsize], [itemsize], [0]
        for length, stride in zip(reversed(lengths), reversed(strides), strict=True):
            gap = stride - self._spans[0] if length > 1 else 0
            self._spans.insert(0, (length - 1) * stride + self._spans[0])
            self._sizes.insert(0, length * self._sizes[0])
            self._gaps.insert(0, max(gap, self._gaps[0]))

    def cut(self, index: tuple[int, ...], start: int) -> Iterator[Block]:
        depth = len(index)
        if depth == len(self._lengths):
            yield Block(start, start + self._spans[depth], index, 0, 1, is_dense=True)
            return
        length, stride = self._lengths[depth], self._strides[depth]
        row = self._spans[depth + 1]
        if self._spans[depth] == self._sizes[depth]:
            yield Block(start, start + self._spans[depth], index, 0, length, is_dense=True)
        elif self._gaps[depth] >= _LARGEST_GAP or row > _LARGEST_BLOCK or length == 1:
            for number in range(length):
                yield from self.cut((*index, number), start + number * stride)
        else:
            rows = max(1, (_LARGEST_BLOCK - row) // stride + 1)
            for first in range(0, length, rows):
                last = min(first + rows, length)
                end = start + (last - 1) * stride + row
                yield Block(start + first * stride, end, index, first, last, is_dense=False)
