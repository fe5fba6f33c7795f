import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.readers.item_ranges import ItemRange, RangeGroup, check_item_ranges, group_ranges


@st.composite
def sorted_items(draw: st.DrawFn) -> list[ItemRange]:
    items, at = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20)):
        items.append(ItemRange(at + gap, at + gap + length))
        at += gap + length
    return items


@given(sorted_items(), st.one_of(st.integers(0, 60), st.just(math.inf)))
def test_groups_hold_every_item_and_no_larger_gap(items: list[ItemRange], max_gap: float) -> None:
    groups = group_ranges(items, max_gap)
    assert [item for group in groups for item in group.item_ranges] == items
    for group in groups:
        assert (group.start, group.end) == (group.item_ranges[0].start, group.item_ranges[-1].end)
        for before, after in zip(group.item_ranges, group.item_ranges[1:], strict=False):
            assert after.start - before.end <= max_gap
    for left, right in itertools.pairwise(groups):
        assert right.start - left.end > max_gap


def test_infinity_makes_one_group_and_zero_joins_what_touches() -> None:
    items = [ItemRange(0, 10), ItemRange(10, 20), ItemRange(21, 30)]
    assert group_ranges(items, math.inf) == [RangeGroup(0, 30, tuple(items))]
    assert [group.end for group in group_ranges(items, 0)] == [20, 30]


def test_equal_neighbours_count_once() -> None:
    assert check_item_ranges([ItemRange(1, 2), ItemRange(1, 2), ItemRange(2, 3)]) == (ItemRange(1, 2), ItemRange(2, 3))


@pytest.mark.parametrize("items", [[], [ItemRange(5, 9), ItemRange(0, 2)], [ItemRange(0, 5), ItemRange(4, 9)]])
def test_ranges_out_of_order_or_overlapping_are_refused(items: list[ItemRange]) -> None:
    with pytest.raises(ValueError):
        check_item_ranges(items)


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (4, 3)])
def test_a_range_is_not_negative(start: int, end: int) -> None:
    with pytest.raises(ValueError):
        ItemRange(start, end)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(TypeError):
        ItemRange("0", 4)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError):
        check_item_ranges([(0, 4)])  # type: ignore[list-item]  # the mistake under test
