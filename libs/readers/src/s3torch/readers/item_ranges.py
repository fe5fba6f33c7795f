"""The ranges of an object that will be read, and which of them are worth one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["DEFAULT_MAX_GAP_SIZE", "ItemRange", "RangeGroup", "check_item_ranges", "group_ranges"]

DEFAULT_MAX_GAP_SIZE = 32 * 1024 * 1024
"""Largest gap between two items, in bytes, that is read over rather than skipped with a new request."""


@dataclass(frozen=True, slots=True, order=True)
class ItemRange:
    """Where one item lies in its object.

    Raises:
        TypeError: A bound is not an int.
        ValueError: The range is negative or ends before it starts.
    """

    start: int
    """First byte."""
    end: int
    """Byte after the last."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        bounds: tuple[object, object] = (self.start, self.end)
        if not all(isinstance(bound, int) for bound in bounds):
            raise TypeError(f"the bounds of a range must be ints, got {self.start!r} and {self.end!r}")
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a range needs 0 <= start <= end, got start={self.start}, end={self.end}")


@dataclass(frozen=True, slots=True)
class RangeGroup:
    """Items so near to each other that one stream serves them all."""

    start: int
    """First byte of the first item."""
    end: int
    """Byte after the last of the last item."""
    item_ranges: tuple[ItemRange, ...]
    """The items, in order."""


def check_item_ranges(item_ranges: Iterable[ItemRange]) -> tuple[ItemRange, ...]:
    """Hold ranges to the rule that they come in order and apart from each other.

    Args:
        item_ranges: The ranges; equal neighbours count once.

    Returns:
        The ranges.

    Raises:
        TypeError: One is not an `ItemRange`.
        ValueError: There is none, or they are out of order or overlap.
    """
    checked: list[ItemRange] = []
    for item in item_ranges:
        if not isinstance(item, ItemRange):
            raise TypeError(f"item_ranges must hold ItemRange values, got {type(item).__name__}")
        if checked and item == checked[-1]:
            continue
        if checked and item.start < checked[-1].end:
            raise ValueError(f"item ranges must be sorted and apart: {item} comes after {checked[-1]}")
        checked.append(item)
    if not checked:
        raise ValueError("item_ranges must hold at least one range")
    return tuple(checked)


def group_ranges(item_ranges: Sequence[ItemRange], max_gap_size: float) -> list[RangeGroup]:
    """Put neighbours together whose gap is at most ``max_gap_size`` bytes.

    Args:
        item_ranges: Sorted and apart, at least one.
        max_gap_size: Bytes; infinity makes one group, and 0 joins only what touches.

    Returns:
        The groups, in order.
    """
    groups: list[RangeGroup] = []
    members: list[ItemRange] = []
    for item in item_ranges:
        if members and item.start - members[-1].end > max_gap_size:
            groups.append(RangeGroup(members[0].start, members[-1].end, tuple(members)))
            members = []
        members.append(item)
    groups.append(RangeGroup(members[0].start, members[-1].end, tuple(members)))
    return groups
