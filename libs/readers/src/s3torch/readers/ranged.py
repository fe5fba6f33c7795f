"""`RangedS3Reader`: exact ranges, for sparse reads of large objects."""

from __future__ import annotations

import io
from typing import Any

from s3torch.client import ObjectChangedError, ProtocolError
from s3torch.readers._iterator_stream import as_byte_stream
from s3torch.readers._object_reader import ObjectReader, as_size
from s3torch.readers.protocol import ByteStream, GetObjectInfoCallable, GetStreamCallable

__all__ = ["DEFAULT_BUFFER_SIZE", "RangedS3Reader"]

DEFAULT_BUFFER_SIZE = 8 * 1024 * 1024
"""Bytes that a small read loads."""


class RangedS3Reader(ObjectReader):
    """A reader of one object that fetches exactly what it is asked for, each read as a range.

    * A read of fewer than ``buffer_size`` bytes loads that many into a buffer, and is served from it.
    * A read of ``buffer_size`` bytes or more goes past the buffer, straight into its destination.
    * A read that begins in the buffer takes what is there; what is left follows the two rules above.

    Nothing is fetched before the position or behind what these rules load.

    Args:
        bucket: The object's bucket.
        key: The object's key.
        get_object_info: Tells the object's size; called at most once.
        get_stream: Opens a range: called with its first byte and the byte after its last.
        buffer_size: Size of the buffer in bytes; None is 8 MiB, and 0 makes every read a request of its own.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The bucket or the key is empty, or ``buffer_size`` is negative.
    """

    _etag: str | None = None

    def __init__(
        self,
        bucket: str,
        key: str,
        get_object_info: GetObjectInfoCallable,
        get_stream: GetStreamCallable,
        buffer_size: int | None = None,
    ) -> None:
        check_buffer_size(buffer_size)
        super().__init__(bucket, key, get_object_info, get_stream)
        self._buffer_size = DEFAULT_BUFFER_SIZE if buffer_size is None else buffer_size
        self._clips = bool(getattr(get_stream, "clips_ranges", False))
        self._position = 0
        self._memory = bytearray()
        self._buffer = memoryview(b"")
        self._buffer_start = 0

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes.

        Args:
            size: How many; None or negative reads all that is left.

        Returns:
            The bytes; fewer than asked for only at the end.

        Raises:
            S3Exception: Reading from S3 failed.
            TypeError: The size is not an int.
        """
        if not self._is_ready:
            self._refuse()
        self._was_sought = False
        size = as_size(size)
        if size == 0:
            return b""
        head = self._buffered(size)
        position = self._position + len(head)
        left = size - len(head)
        if not left:
            data = bytes(head)
        elif 0 < left < self._buffer_size:
            data = bytes(head)
            self._load(position)
            data += self._buffered(left, position)
        else:
            end = self._clip(position, None if size < 0 else position + left)
            tail = b"" if end is not None and end <= position else self._fetch(position, end)
            data = b"".join((head, tail)) if len(head) else tail
        self._position += len(data)
        return data

    def tell(self) -> int:
        """Return the position: the offset of the next byte."""
        if not self._is_ready:
            self._refuse()
        return self._position

    def _arguments(self) -> tuple[Any, ...]:
        return (*super()._arguments(), self._buffer_size)

    def _fill(self, view: memoryview) -> int:
        head = self._buffered(len(view))
        filled = len(head)
        view[:filled] = head
        left = len(view) - filled
        position = self._position + filled
        if 0 < left < self._buffer_size:
            self._load(position)
            tail = self._buffered(left, position)
            view[filled : filled + len(tail)] = tail
            filled += len(tail)
        elif left:
            end = self._clip(position, position + left)
            if end is not None and end > position:
                filled += self._fetch_into(position, view[filled : filled + end - position])
        self._position += filled
        return filled

    def _move(self, offset: int, whence: int) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._size()
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        if offset < 0:
            raise ValueError(f"cannot seek before the start: {offset}")
        if offset > self._position and offset > self._buffer_start + len(self._buffer):
            offset = min(offset, self._size())
        self._position = offset
        return offset

    def _release(self) -> None:
        self._buffer = memoryview(b"")
        self._memory = bytearray()

    def _buffered(self, size: int, position: int | None = None) -> memoryview:
        """The buffered bytes at a position, up to ``size``, all of them where it is negative."""
        offset = (self._position if position is None else position) - self._buffer_start
        if not 0 <= offset < len(self._buffer):
            return self._buffer[:0]
        return self._buffer[offset:] if size < 0 else self._buffer[offset : offset + size]

    def _load(self, position: int) -> None:
        """Fill the buffer from a position on."""
        end = self._clip(position, position + self._buffer_size)
        if end is None or end <= position:
            return
        self._buffer = self._buffer[:0]
        if len(self._memory) < end - position:
            self._memory = bytearray(end - position)
        count = self._fetch_into(position, memoryview(self._memory)[: end - position])
        self._buffer = memoryview(self._memory)[:count]
        self._buffer_start = position

    def _clip(self, start: int, end: int | None) -> int | None:
        """Hold the end of a range to the object's; None, all that is left, stays where the size is not known."""
        if self._known_size is None and self._clips and start == 0:
            return end
        return self._size() if end is None else min(end, self._size())

    def _fetch(self, start: int, end: int | None) -> bytes:
        stream = self._open(start, end)
        try:
            data = stream.read(-1 if end is None else end - start)
            self._check(stream, start, end, len(data))
        finally:
            stream.close()
        return data

    def _fetch_into(self, start: int, view: memoryview) -> int:
        stream = self._open(start, start + len(view))
        try:
            count = stream.readinto(view)
            self._check(stream, start, start + len(view), count)
        finally:
            stream.close()
        return count

    def _open(self, start: int, end: int | None) -> ByteStream:
        source: Any = self._get_stream(start, end)
        return as_byte_stream(source, self._size, start=start, end=end)

    def _check(self, stream: ByteStream, start: int, end: int | None, count: int) -> None:
        """Hold what came to the object's size and to the ETag of the ranges before."""
        if self._known_size is not None and end is not None and count != end - start:
            raise ProtocolError(
                f"asked for {end - start} bytes at {start}, the stream gave {count}",
                bucket=self._bucket,
                key=self._key,
            )
        etag = getattr(stream, "etag", None)
        if etag is None:
            return
        if self._etag is not None and etag != self._etag:
            raise ObjectChangedError(
                "the object was replaced while it was read",
                operation="GetObject",
                bucket=self._bucket,
                key=self._key,
                remedy="Open it again and read it from the start.",
            )
        self._etag = etag


def check_buffer_size(buffer_size: int | None) -> None:
    """Raise TypeError or ValueError for what is no size of a buffer."""
    if buffer_size is None:
        return
    if isinstance(buffer_size, bool) or not isinstance(buffer_size, int):
        raise TypeError(f"buffer_size must be an int or None, got {type(buffer_size).__name__}")
    if buffer_size < 0:
        raise ValueError(f"buffer_size must not be negative, got {buffer_size}")
