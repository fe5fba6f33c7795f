from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.dcp import _slices
from s3torch.dcp._slices import Block, c_strides, plan_blocks

KIB, MIB = 1024, 1024 * 1024


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    shape = draw(st.lists(st.integers(0, 7), max_size=4))
    offsets = [draw(st.integers(0, size)) for size in shape]
    lengths = [draw(st.integers(0, size - offset)) for size, offset in zip(shape, offsets, strict=True)]
    return tuple(shape), tuple(offsets), tuple(lengths)


@given(boxes(), st.integers(1, 8), st.integers(0, 100), st.integers(1, 200))
def test_the_blocks_hold_the_box(
    box: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], itemsize: int, gap: int, most: int
) -> None:
    shape, offsets, lengths = box
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_slices, "_LARGEST_GAP", gap)
        patch.setattr(_slices, "_LARGEST_BLOCK", most)
        blocks = plan_blocks(shape, itemsize, offsets, lengths)
    stored = np.arange(math.prod(shape) * itemsize).reshape(*shape, itemsize)
    wanted = stored[tuple(slice(o, o + n) for o, n in zip(offsets, lengths, strict=True))]
    got = np.full_like(wanted, -1)
    strides = tuple(stride * itemsize for stride in c_strides(shape))
    for before, after in pairwise(blocks):
        assert before.end <= after.start
    for block in blocks:
        target = got[block.index]
        target = target[block.first : block.last] if len(block.index) < len(shape) else target[None]
        data = stored.reshape(-1)[block.start : block.end]
        if block.is_dense:
            assert target.size == data.size
            source = data.reshape(target.shape)
        else:
            steps = (*strides[len(block.index) :], 1)
            source = np.lib.stride_tricks.as_strided(data, target.shape, tuple(step * data.itemsize for step in steps))
            assert block.end - block.start <= most
        assert (target == -1).all()
        target[...] = source
    assert (got == wanted).all()


def test_a_slice_of_rows_is_one_range() -> None:
    assert plan_blocks((100, 30, 7), 4, (10, 0, 0), (20, 30, 7)) == [Block(8400, 25200, (), 0, 20, is_dense=True)]
    assert plan_blocks((5, 100, 8), 4, (2, 50, 0), (1, 10, 8)) == [Block(8000, 8320, (), 0, 1, is_dense=True)]
    assert plan_blocks((), 8, (), ()) == [Block(0, 8, (), 0, 1, is_dense=True)]


def test_narrow_columns_are_read_through_their_gaps_in_blocks_of_bounded_size() -> None:
    blocks = plan_blocks((10_000, 1024), 4, (0, 100), (10_000, 10))
    assert sum(block.last - block.first for block in blocks) == 10_000
    assert max(block.end - block.start for block in blocks) <= 4 * MIB
    assert len(blocks) == 10


def test_distant_rows_are_ranges_of_their_own() -> None:
    blocks = plan_blocks((8, 1024, 1024), 4, (0, 0, 0), (8, 16, 1024))
    assert [block.end - block.start for block in blocks] == [64 * KIB] * 8
    assert all(block.is_dense for block in blocks)


@pytest.mark.parametrize(
    ("offsets", "lengths"), [((0,), (1, 1)), ((-1, 0), (1, 1)), ((0, 3), (1, 2)), ((0, 0), (-1, 1))]
)
def test_a_box_outside_is_refused(offsets: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="inside"):
        plan_blocks((4, 4), 4, offsets, lengths)
