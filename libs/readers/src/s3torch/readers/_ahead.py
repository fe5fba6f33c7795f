"""Known segments of an object, fetched side by side ahead of who reads them, within a bound of memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s3torch.client import GetResult, Transfer
from s3torch.readers.protocol import RangeStream

__all__ = ["SEGMENT_SIZE", "ReadAhead", "cut_segments", "subtract_ranges"]

SEGMENT_SIZE = 2 * 1024 * 1024
"""Bytes in one request: enough to outweigh its cost, small enough to keep many connections busy within the bound."""

# Requests ahead of the reader: a bound where segments are tiny.
_MOST_AHEAD = 64


def cut_segments(
    ranges: Iterable[tuple[int, int]], *, max_gap: float = 0, size: int = SEGMENT_SIZE
) -> list[tuple[int, int]]:
    """Turn ranges into requests: join near ones, cut long ones.

    Args:
        ranges: First byte and byte after the last of each, sorted by the first; may touch and overlap.
        max_gap: Bytes between two ranges that are rather fetched than skipped.
        size: Most bytes of one request.

    Returns:
        First byte and byte after the last of each request, sorted and apart.
    """
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if end <= start:
            continue
        if joined and start - joined[-1][1] <= max_gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return [(at, min(at + size, end)) for start, end in joined for at in range(start, end, size)]


def subtract_ranges(ranges: Iterable[tuple[int, int]], held: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what of sorted ranges lies outside those held, sorted."""
    left = list(ranges)
    for held_start, held_end in held:
        pieces: list[tuple[int, int]] = []
        for start, end in left:
            if held_end <= start or end <= held_start:
                pieces.append((start, end))
                continue
            if start < held_start:
                pieces.append((start, held_start))
            if held_end < end:
                pieces.append((held_end, end))
        left = pieces
    return left


@dataclass(slots=True)
class _Slot:
    """One segment's memory and what fills it."""

    memory: bytearray
    transfer: Transfer[GetResult] | None


class ReadAhead:
    """A window that moves over segments as they are read.

    Reading a segment starts it and those that follow, as many as the bound allows. Segments behind the reader are
    dropped and their memory is used again. Not for use by two threads at once.

    Args:
        stream: Where to read; its ETag holds for all segments.
        segments: First byte and byte after the last of each, sorted and apart, none longer than `SEGMENT_SIZE`.
        bound: Bytes of memory to use at most.
    """

    def __init__(self, stream: RangeStream, segments: Sequence[tuple[int, int]], bound: int) -> None:
        self._stream = stream
        self._starts = [start for start, _ in segments]
        self._ends = [end for _, end in segments]
        self._bound = bound
        self._slots: dict[int, _Slot] = {}
        self._held = 0
        self._next = 0
        self._spare: list[bytearray] = []

    def readinto(self, position: int, view: memoryview, *, floor: int | None = None) -> int:
        """Copy bytes of the segments that lie at a position.

        Args:
            position: First byte.
            view: Filled as far as segments follow each other without a gap.
            floor: Nobody will read before this byte again; None means before ``position`` and what is copied.

        Returns:
            How many bytes were copied; 0 where there is no segment.
        """
        self._release_before(position if floor is None else floor)
        filled = 0
        number = bisect_right(self._starts, position) - 1
        while filled < len(view) and 0 <= number < len(self._starts):
            if not self._starts[number] <= position < self._ends[number]:
                break
            memory = self._wait(number)
            offset = position - self._starts[number]
            count = min(self._ends[number] - position, len(view) - filled)
            view[filled : filled + count] = memoryview(memory)[offset : offset + count]
            filled += count
            position += count
            if floor is None:
                self._release_before(position)
            number += 1
        return filled

    def gap(self, position: int) -> int | None:
        """How many bytes from a position on lie in no segment; None where no segment follows."""
        number = bisect_right(self._starts, position)
        return self._starts[number] - position if number < len(self._starts) else None

    def close(self) -> None:
        """End all that is in flight and drop all memory."""
        for slot in self._slots.values():
            if slot.transfer is not None:
                slot.transfer.cancel()
        self._slots.clear()
        self._spare.clear()
        self._held = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._slots)} of {len(self._starts)} segments, {self._held} bytes>"

    def _wait(self, number: int) -> bytearray:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._start_from(number)
        else:
            self._top_up()
        if slot.transfer is not None:
            try:
                self._stream.learn(slot.transfer.result().info)
            except BaseException:
                self._drop(number)
                raise
            slot.transfer = None
        return slot.memory

    def _start_from(self, number: int) -> _Slot:
        """Move the window to a segment that is not in it: what lies behind goes first, then what is farthest ahead."""
        for other in sorted(self._slots, key=lambda other: (other > number, -other)):
            if self._held + self._cost(number) <= self._bound:
                break
            self._drop(other)
        slot = self._start(number)
        self._next = number + 1
        self._top_up()
        return slot

    def _top_up(self) -> None:
        while self._next < len(self._starts) and len(self._slots) < _MOST_AHEAD:
            if self._next not in self._slots:
                if self._held + self._cost(self._next) > self._bound:
                    return
                self._start(self._next)
            self._next += 1

    def _cost(self, number: int) -> int:
        """Bytes of memory for a segment: large ones all take the same, so that it can be used again."""
        length = self._ends[number] - self._starts[number]
        return length if length <= SEGMENT_SIZE // 2 else SEGMENT_SIZE

    def _start(self, number: int) -> _Slot:
        start, end = self._starts[number], self._ends[number]
        cost = self._cost(number)
        # Memory that was used before has its pages already; fresh memory would cost a fault on each.
        if self._spare and cost == SEGMENT_SIZE:
            memory = self._spare.pop()
        else:
            while self._spare and self._held + cost + len(self._spare) * SEGMENT_SIZE > self._bound:
                self._spare.pop()
            memory = bytearray(cost)
        slot = _Slot(memory, self._stream.start_range(start, end, memoryview(memory)[: end - start]))
        self._slots[number] = slot
        self._held += cost
        return slot

    def _release_before(self, floor: int) -> None:
        for number in [number for number in self._slots if self._ends[number] <= floor]:
            self._drop(number)

    def _drop(self, number: int) -> None:
        slot = self._slots.pop(number)
        self._held -= len(slot.memory)
        if slot.transfer is not None:
            slot.transfer.cancel()
        if self._next >= len(self._starts):
            self._spare.clear()
        elif len(slot.memory) == SEGMENT_SIZE:
            self._spare.append(slot.memory)
