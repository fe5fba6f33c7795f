from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client._upload_plan import LARGEST_PART, MOST_PARTS, equal_part_size, part_size_at, patience

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4
PART_SIZES = [5 * MIB, 8 * MIB, 64 * MIB, GIB, 5 * GIB]


@pytest.mark.parametrize("first", PART_SIZES)
def test_ten_thousand_parts_reach_the_largest_object(first: int) -> None:
    assert sum(part_size_at(number, first) for number in range(1, MOST_PARTS + 1)) >= 5 * TIB


@pytest.mark.parametrize("first", PART_SIZES)
def test_parts_are_equal_for_long_and_then_grow_within_the_limits(first: int) -> None:
    sizes = [part_size_at(number, first) for number in range(1, MOST_PARTS + 1)]
    assert set(sizes[:4500]) == {first}
    assert sizes == sorted(sizes)
    assert max(sizes) <= LARGEST_PART


def test_a_part_is_never_more_than_a_small_share_of_what_was_sent_before() -> None:
    total = 0
    for number in range(1, MOST_PARTS + 1):
        size = part_size_at(number, 8 * MIB)
        if number > 4500:
            assert size < total / 400
        total += size


@given(total=st.integers(1, 50 * TIB), least=st.integers(5 * MIB, 5 * GIB))
def test_equal_parts_are_few_enough(total: int, least: int) -> None:
    size = equal_part_size(total, least)
    assert size >= least
    assert -(-total // size) <= MOST_PARTS
    if total <= least * MOST_PARTS:
        assert size == least


def test_patience_grows_with_what_is_to_be_sent() -> None:
    assert 0 < patience(0) < 0.01
    assert patience(GIB) == pytest.approx(2.15, rel=0.05)
