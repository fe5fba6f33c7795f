"""`DCPOptimizedS3Reader`: known items in order, for loading distributed checkpoints."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from s3torch.client import ProtocolError
from s3torch.readers._ahead import ReadAhead, cut_segments
from s3torch.readers._archive import read_through
from s3torch.readers._iterator_stream import IteratorStream, as_byte_stream, fetches_ranges
from s3torch.readers._object_reader import ObjectReader, as_size
from s3torch.readers.item_ranges import (
    DEFAULT_MAX_GAP_SIZE,
    ItemRange,
    RangeGroup,
    check_item_ranges,
    group_ranges,
)
from s3torch.readers.protocol import ByteStream, GetObjectInfoCallable, GetStreamCallable

__all__ = ["DEFAULT_MAX_GAP_SIZE", "DCPOptimizedS3Reader", "ItemRange", "RangeGroup", "UnsupportedSeekError"]

# Memory for reading ahead, of what the stream can lend.
_BOUND = 32 * 1024 * 1024
# Items up to this size are fetched whole, ahead of the reader; the middle of larger ones goes into its destination.
_WHOLE = 8 * 1024 * 1024
# Bytes at both ends of a large item that hold the headers and the directory of the archive it is.
_EDGE = 16 * 1024
# Bytes rather fetched than skipped with another request where ranges are fetched side by side.
_GAP = 256 * 1024


class UnsupportedSeekError(io.UnsupportedOperation, TypeError):
    """The reader knows its items and not the object's end."""


class _Memory(io.BytesIO):
    """A `BytesIO` that may be collected together with a view of it, as the frames of an error leave them behind."""

    def close(self) -> None:
        """Close, unless a view is still out; Python 3.13 and later report what the collector's call raises."""
        try:
            super().close()
        except BufferError:
            pass


class DCPOptimizedS3Reader(ObjectReader):
    """A reader of known ranges of one object, in order.

    Items are read one after the other: an item may be skipped, but none is gone back to once a later one was read.
    Within the current item every seek is allowed. Items that lie near to each other are fetched together and ahead of
    the reader; no more than the current item and a bounded number of bytes ahead is kept. A read ends at its item's
    end.

    Args:
        bucket: The object's bucket.
        key: The object's key.
        item_ranges: What will be read: sorted, apart from each other, at least one.
        get_object_info: Not needed by this reader.
        get_stream: Opens a range: called with its first byte and the byte after its last.
        max_gap_size: Largest gap between items, in bytes, that may be fetched to save a request; infinity allows all,
            0 none.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The ranges are empty, out of order or overlap; the gap is negative; bucket or key are empty.
    """

    _stream: ByteStream | None = None
    _ahead: ReadAhead | None = None
    _group: RangeGroup | None = None

    def __init__(
        self,
        bucket: str,
        key: str,
        item_ranges: Sequence[ItemRange],
        get_object_info: GetObjectInfoCallable,
        get_stream: GetStreamCallable,
        max_gap_size: float = DEFAULT_MAX_GAP_SIZE,
    ) -> None:
        check_gap(max_gap_size)
        self._items = check_item_ranges(item_ranges)
        super().__init__(bucket, key, get_object_info, get_stream)
        self._starts = [item.start for item in self._items]
        self._max_gap = max_gap_size
        self._groups = group_ranges(self._items, max_gap_size)
        self._current = 0
        self._position = 0

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes of the item at the position.

        Args:
            size: How many, not negative.

        Returns:
            The bytes; fewer than asked for only at the item's end.

        Raises:
            S3Exception: Reading from S3 failed.
            TypeError: The size is not an int.
            ValueError: The size is None or negative, or the position is in no item that is still to be read.
        """
        if not self._is_ready:
            self._refuse()
        self._was_sought = False
        size = as_size(size)
        if size < 0:
            raise ValueError("this reader gives its items only: read() needs a size that is not negative")
        memory = _Memory(bytes(min(size, self._left())))
        with memory.getbuffer() as view:
            if len(view):
                self._fill(view)
        return memory.getvalue()

    def tell(self) -> int:
        """Return the position: the offset in the object of the next byte."""
        if not self._is_ready:
            self._refuse()
        return self._position

    def _arguments(self) -> tuple[Any, ...]:
        return self._bucket, self._key, self._items, self._get_object_info, self._get_stream, self._max_gap

    def _move(self, offset: int, whence: int) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            raise UnsupportedSeekError("seeking from the object's end is not supported: use SEEK_SET or SEEK_CUR")
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence must be 0 or 1, got {whence}")
        if offset < 0:
            raise ValueError(f"cannot seek before the start: {offset}")
        if self._current and offset < self._items[self._current].start:
            raise ValueError(f"cannot go back to {offset}, before the item {self._items[self._current]}")
        self._position = offset
        return offset

    def _left(self) -> int:
        """Find the item at the position, and say how many of its bytes are left."""
        number = bisect_right(self._starts, self._position) - 1
        if number < 0 or self._position > self._items[number].end:
            raise ValueError(f"position {self._position} is in none of the reader's items")
        if number < self._current:
            raise ValueError(f"position {self._position} is in an item before {self._items[self._current]}")
        return self._items[number].end - self._position

    def _fill(self, view: memoryview) -> int:
        view = view[: self._left()]
        if not len(view):
            return 0
        self._current = bisect_right(self._starts, self._position) - 1
        item = self._items[self._current]
        stream = self._open(item)
        stream.seek(self._position)
        if isinstance(stream, IteratorStream):
            stream.forget_before(item.start)
        if self._ahead is not None and fetches_ranges(stream):
            count = read_through(self._ahead, stream, view, floor=item.start)
        else:
            count = stream.readinto(view)
        if count != len(view):
            raise ProtocolError(
                f"{item} was to be read, the object ends at byte {self._position + count}",
                bucket=self._bucket,
                key=self._key,
                remedy="Check that the checkpoint's metadata belongs to this object.",
            )
        self._position += count
        return count

    def _open(self, item: ItemRange) -> ByteStream:
        """Return the stream that has an item's bytes, another one for each group if ranges cannot be fetched freely."""
        if self._stream is not None:
            if self._group is None or item.end <= self._group.end:
                return self._stream
            self._release()
        group = next(group for group in self._groups if item.end <= group.end)
        stream = self._get(group.start, group.end)
        if fetches_ranges(stream):
            if len(self._groups) > 1:
                stream.close()
                stream = self._get(self._items[0].start, self._items[-1].end)
        else:
            self._group = group
        self._stream = stream
        if fetches_ranges(stream):
            bound = stream.lend(_BOUND)
            if bound:
                self._ahead = ReadAhead(stream, plan_items(self._items, self._max_gap), bound)
        return stream

    def _get(self, start: int, end: int) -> ByteStream:
        source: Any = self._get_stream(start, end)
        return as_byte_stream(source, self._size, start=start, end=end)

    def _release(self) -> None:
        ahead, self._ahead = self._ahead, None
        stream, self._stream = self._stream, None
        self._group = None
        if ahead is not None:
            ahead.close()
        if stream is not None:
            stream.close()


def plan_items(items: Sequence[ItemRange], max_gap: float) -> list[tuple[int, int]]:
    """Choose what to fetch ahead of who reads the items.

    Args:
        items: Sorted and apart.
        max_gap: Bytes between items that may be fetched to save a request.

    Returns:
        First byte and byte after the last of each request.
    """
    ranges: list[tuple[int, int]] = []
    for item in items:
        if item.end - item.start <= _WHOLE:
            ranges.append((item.start, item.end))
        else:
            ranges += [(item.start, item.start + _EDGE), (item.end - _EDGE, item.end)]
    return cut_segments(ranges, max_gap=min(max_gap, _GAP))


def check_gap(max_gap_size: float) -> None:
    """Raise TypeError or ValueError for what is no largest gap."""
    if isinstance(max_gap_size, bool) or not isinstance(max_gap_size, (int, float)):
        raise TypeError(f"max_gap_size must be an int or a float, got {type(max_gap_size).__name__}")
    if not max_gap_size >= 0:
        raise ValueError(f"max_gap_size must not be negative, got {max_gap_size}")
