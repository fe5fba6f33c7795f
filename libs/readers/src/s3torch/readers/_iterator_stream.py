"""Any iterator of bytes as a stream that can be read at any offset."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from s3torch.client import ProtocolError
from s3torch.readers.protocol import ByteStream, RangeStream, StreamLike

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["IteratorStream", "as_byte_stream", "fetches_ranges"]


class IteratorStream:
    """The bytes that an iterator yields, kept as they came, so that they can be read again.

    Args:
        chunks: Yields the bytes in order; closed with this stream if it can be.
        get_size: Tells the whole object's size; asked only where it matters.
        start: Offset in the object of the first byte yielded.
        end: Byte after the last that will be yielded; None is the object's end.
    """

    def __init__(
        self, chunks: Iterable[bytes], get_size: Callable[[], int], *, start: int = 0, end: int | None = None
    ) -> None:
        self._source = chunks
        self._iterator: Iterator[bytes] = iter(chunks)
        self._get_size = get_size
        self._end = end
        self._position = start
        self._edge = start  # behind the last byte that was yielded
        self._floor = start  # what lies before is forgotten
        self._offsets: list[int] = []
        self._chunks: list[bytes] = []
        self._is_exhausted = False
        self._error: BaseException | None = None

    @property
    def end(self) -> int:
        """The byte after the last of the stream."""
        if self._end is None:
            self._end = self._edge if self._is_exhausted else self._get_size()
        return self._end

    def tell(self) -> int:
        """Return the offset in the object of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, no further than the end; pulls nothing from the iterator."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self.end
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        if offset < self._floor:
            raise ValueError(f"cannot seek before {self._floor}, got {offset}")
        if offset > self._edge:
            offset = max(self._edge, min(offset, self.end))
        self._position = offset
        return offset

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left where it is None or negative."""
        if size is None or size < 0:
            self._pull(None)
        else:
            self._pull(self._position + size)
        count = self._edge - self._position
        if size is not None and 0 <= size < count:
            count = size
        if count <= 0:
            return b""
        if len(self._chunks) > 1 and self._offsets[0] == self._position and self._edge == self._position + count:
            # All of it: keep the result instead of the pieces it was made of.
            self._chunks = [b"".join(self._chunks)]
            self._offsets = [self._position]
        pieces = [bytes(piece) for piece in self._stretch(self._position, count)]
        self._position += count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``, fewer bytes than it holds only at the end."""
        self._pull(self._position + buffer.nbytes)
        count = min(buffer.nbytes, max(0, self._edge - self._position))
        filled = 0
        for piece in self._stretch(self._position, count):
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._position += count
        return count

    def forget_before(self, offset: int) -> None:
        """Drop chunks that end at or before ``offset``; nobody will seek back there."""
        self._floor = max(self._floor, offset)
        while self._chunks and self._offsets[0] + len(self._chunks[0]) <= offset:
            del self._chunks[0], self._offsets[0]

    def close(self) -> None:
        """Drop what is kept and close the iterator if it can be."""
        self._chunks.clear()
        self._offsets.clear()
        self._is_exhausted = True
        close = getattr(self._source, "close", None)
        if callable(close):
            close()

    def _pull(self, until: int | None) -> None:
        """Take chunks until the byte before ``until`` is there, or all of them."""
        while not self._is_exhausted and (until is None or self._edge < until):
            if self._error is not None:  # a generator that raised pretends to be at its end
                raise self._error
            try:
                self._pull_one()
            except BaseException as error:
                self._error = error
                raise

    def _pull_one(self) -> None:
        chunk = next(self._iterator, None)
        if chunk is None:
            if self._end is not None and self._edge != self._end:
                raise ProtocolError(
                    f"the stream ended at byte {self._edge}, expected {self._end}",
                    remedy="Check the callable that opens the stream, or read the object again.",
                )
            self._is_exhausted = True
        elif len(chunk):
            # A bytearray or a memoryview may be used again by who yielded it.
            self._append(chunk if type(chunk) is bytes else bytes(chunk))

    def _append(self, chunk: bytes) -> None:
        if self._edge + len(chunk) > self._floor:
            self._chunks.append(chunk)
            self._offsets.append(self._edge)
        self._edge += len(chunk)

    def _stretch(self, start: int, count: int) -> Iterator[bytes | memoryview]:
        """Yield the pieces of ``count`` bytes from ``start`` on, all of them kept; a whole chunk as it is."""
        position, left = start, count
        number = bisect_right(self._offsets, start) - 1
        while left > 0:
            chunk, offset = self._chunks[number], position - self._offsets[number]
            if offset == 0 and left >= len(chunk):
                piece: bytes | memoryview = chunk
            else:
                piece = memoryview(chunk)[offset : offset + left]
            yield piece
            position += len(piece)
            left -= len(piece)
            number += 1


def as_byte_stream(
    stream: StreamLike, get_size: Callable[[], int], *, start: int = 0, end: int | None = None
) -> ByteStream:
    """Return what can be read at any offset: the stream itself if it can, else an adapter over its iterator.

    Args:
        stream: What `get_stream` returned.
        get_size: Tells the whole object's size.
        start: Offset in the object of its first byte.
        end: Byte after its last; None is the object's end.

    Raises:
        TypeError: It is neither.
    """
    if _is_byte_stream(stream):
        return stream
    if not hasattr(stream, "__iter__"):
        raise TypeError(f"get_stream must return a stream or an iterator of bytes, got {type(stream).__name__}")
    return IteratorStream(stream, get_size, start=start, end=end)


def _is_byte_stream(stream: StreamLike) -> TypeIs[ByteStream]:
    """Tell whether a stream reads at any offset; by hand: isinstance() of a protocol takes longer than the reader."""
    return (
        hasattr(stream, "readinto") and hasattr(stream, "seek") and hasattr(stream, "read") and hasattr(stream, "tell")
    )


def fetches_ranges(stream: ByteStream) -> TypeIs[RangeStream]:
    """Tell whether a stream can fetch ranges side by side; by hand for the same reason."""
    return hasattr(stream, "start_range") and hasattr(stream, "lend") and hasattr(stream, "learn")
