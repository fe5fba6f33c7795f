"""Reading ahead in a torch archive: what `torch.load` will ask for, fetched before it asks."""

from __future__ import annotations

from collections.abc import Sequence

from s3torch.readers._ahead import ReadAhead, cut_segments, subtract_ranges
from s3torch.readers.protocol import RangeStream
from s3torch.readers.zip_index import (
    LOCAL_HEADER_SIZE,
    ZipDirectory,
    ZipRecord,
    find_directory,
    is_torch_archive,
    parse_directory,
)

__all__ = ["ArchiveWatch", "plan_archive", "read_through"]

# Memory for reading ahead, of what the stream can lend.
_BOUND = 32 * 1024 * 1024
# Bytes per second of a copy from memory that is not in a cache.
_COPY_RATE = 4e9
# Records up to this size are read ahead however fast the store answers: a request costs more than their copy.
_SMALL = 1024 * 1024
# Bytes rather fetched than skipped with another request.
_GAP = 16 * 1024


def plan_archive(records: Sequence[ZipRecord], end: int, largest: int) -> list[tuple[int, int]]:
    """Choose what to fetch ahead of `torch.load`.

    torch reads the 30 bytes of a record's local header, then its content in one piece. Small records are worth
    fetching whole; of large ones only the header, for their content goes straight into its tensor.

    Args:
        records: The archive's records by the order of their headers.
        end: Byte after the last record: where the directory begins.
        largest: Bytes of content up to which a record is fetched whole.

    Returns:
        First byte and byte after the last of each request, sorted and apart.
    """
    ranges: list[tuple[int, int]] = []
    for number, record in enumerate(records):
        behind = records[number + 1].header_offset if number + 1 < len(records) else end
        if record.stored_size > largest:
            behind = min(behind, record.header_offset + LOCAL_HEADER_SIZE)
        ranges.append((record.header_offset, behind))
    return cut_segments(ranges, max_gap=_GAP)


class ArchiveWatch:
    """Looks at what C code reads, until it knows that this is `torch.load` and what it will read next.

    Args:
        stream: The object.
    """

    def __init__(self, stream: RangeStream) -> None:
        self._stream = stream
        self._directory: ZipDirectory | None = None
        self._latency = 0.0

    def saw(self, start: int, content: memoryview, size: int, seconds: float) -> ReadAhead | None:
        """Take note of one read.

        Args:
            start: Offset in the object of the first byte read.
            content: What was read.
            size: The object's size in bytes.
            seconds: How long it took.

        Returns:
            The window to read through from now on, once the archive's directory was read.
        """
        if self._directory is None:
            if start + len(content) == size:
                self._directory = find_directory(content, size)
                self._latency = seconds
            return None
        directory = self._directory
        if (start, len(content)) != (directory.offset, directory.size):
            return None
        self._directory = None
        records = parse_directory(content)
        if records is None or not is_torch_archive(records):
            return None
        bound = self._stream.lend(_BOUND)
        # Fetching ahead costs a copy; not doing so costs the store's latency, once for each record.
        largest = int(min(bound // 2, max(_SMALL, self._latency * _COPY_RATE)))
        plan = plan_archive(records, directory.offset, largest)
        plan = cut_segments(subtract_ranges(plan, self._stream.buffered))
        return ReadAhead(self._stream, plan, bound) if plan and bound else None


def read_through(ahead: ReadAhead, stream: RangeStream, view: memoryview, *, floor: int | None = None) -> int:
    """Fill a view from a stream's position on, with what was fetched ahead and, for the rest, from the stream.

    Args:
        ahead: What was fetched ahead.
        stream: Where to read; its position moves.
        view: Where to.
        floor: As for `ReadAhead.readinto`.

    Returns:
        How many bytes were written, fewer than the view holds only at the stream's end.
    """
    start = stream.tell()
    filled = 0
    while filled < len(view):
        count = ahead.readinto(start + filled, view[filled:], floor=floor)
        if not count:
            gap = ahead.gap(start + filled)
            stream.seek(start + filled)
            count = stream.readinto(view[filled:] if gap is None else view[filled : filled + gap])
            if not count:
                break
        filled += count
    stream.seek(start + filled)
    return filled
