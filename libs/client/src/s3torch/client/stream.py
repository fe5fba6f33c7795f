"""An object, or a range of it, as a stream: iterate, read, or fill buffers; seek where you like."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol

from s3torch.client._memory_pages import BytesBuffer
from s3torch.client.answers import object_changed
from s3torch.client.config import S3ClientConfig
from s3torch.client.errors import InvalidRangeError
from s3torch.client.jobs import ReadsEngine
from s3torch.client.parallel import read_available, read_into, read_range
from s3torch.client.protocols import Heads, Into, Transfer
from s3torch.client.values import GetInfo, GetRequest, GetResult

__all__ = ["GetObjectStream", "StreamEngine"]

_KIB = 1024
# The first piece fetched for a small read: about what one round trip to S3 carries anyway.
_FIRST_PIECE = 256 * _KIB
# From here on a read goes straight into its destination instead of through a piece.
_DIRECT = 512 * _KIB


class StreamEngine(ReadsEngine, Heads, Protocol):
    """What a stream needs of an engine."""


@dataclass(slots=True)
class _Piece:
    """A buffered stretch of the object, there or on its way."""

    start: int
    end: int
    transfer: Transfer[GetResult] | None
    data: bytes = b""


class GetObjectStream:
    """The bytes of an object or of a range of it.

    Small reads are served from pieces fetched ahead, growing and in parallel as long as the reading is sequential;
    large ones go from the socket straight into their destination. What is buffered can be read again without another
    request. The first response pins the ETag: an object replaced meanwhile is an error. Not for use by two threads at
    once.

    Args:
        engine: Where to read.
        config: Part size, connections, read-ahead.
        request: The object, and optionally the range that bounds the stream, its ETag and size.

    Memory held is at most ``(read_ahead + 1) * part_size`` bytes beside the destinations.
    """

    def __init__(self, engine: StreamEngine, config: S3ClientConfig, request: GetRequest) -> None:
        self._engine = engine
        self._config = config
        self._request = request
        self._etag = request.etag
        self._size = request.size
        self._base = request.start or 0
        self._position = self._base
        self._limit = (config.read_ahead + 1) * config.part_size
        self._held = 0
        self._pieces: OrderedDict[int, _Piece] = OrderedDict()  # by start; least recently used first
        self._starts: list[int] = []  # the same starts, sorted
        self._next_miss = self._base  # a miss here continues the last piece: reading is sequential
        self._piece_size = _FIRST_PIECE
        self._closed = False

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self._request.bucket

    @property
    def key(self) -> str:
        """The key."""
        return self._request.key

    @property
    def size(self) -> int:
        """The whole object's size in bytes; asks the store if nothing has told it yet."""
        if self._size is None:
            head = self._engine.head(self.bucket, self.key)
            self._learn(head.size, head.etag)
            return head.size
        return self._size

    @property
    def etag(self) -> str | None:
        """The ETag all reads are bound to; None before the first response."""
        return self._etag

    @property
    def end(self) -> int:
        """The byte after the last that this stream gives."""
        end = self._request.end
        return self.size if end is None else min(end, self.size)

    @property
    def buffered(self) -> list[tuple[int, int]]:
        """First byte and byte after the last of each stretch that is buffered or on its way."""
        return [(start, self._pieces[start].end) for start in self._starts]

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def tell(self) -> int:
        """Return the offset in the object of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another offset in the object.

        Fetches nothing once the size is known. Before, the size is learnt from the head of the response to a request
        for what lies there and will be read next: the bytes at the offset, or the object's last ones.

        Args:
            offset: Bytes from ``whence``.
            whence: ``SEEK_SET`` (the object's start), ``SEEK_CUR`` or ``SEEK_END``.

        Returns:
            The new offset, held between the stream's first byte and its end.
        """
        self._check_open()
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            if self._size is None and self._request.end is None:
                self._meet(-_FIRST_PIECE)
            offset += self.end
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        if offset < self._base:
            raise ValueError(f"cannot seek before the stream's first byte: {offset} < {self._base}")
        if offset > self._base and offset != self._position:
            if self._size is None:
                self._meet(offset)
            offset = min(offset, max(self._base, self.end))
        self._position = offset
        return offset

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes, fewer only at the end.

        Args:
            size: How many bytes; None or negative reads to the end.

        Returns:
            The bytes; empty at the end.
        """
        self._check_open()
        everything = size is None or size < 0
        if everything and not self._pieces:
            return self._read_unknown(None) if self._size is None or self._position < self.end else b""
        if self._size is None:
            if (everything or (size is not None and size >= _DIRECT)) and self._find(self._position) is None:
                return self._read_unknown(None if everything else size)
            if size == 0 or not self._fetch_first(self._position):
                return b""
        left = max(0, self.end - self._position)
        count = left if size is None or size < 0 else min(size, left)
        if not count:
            return b""
        piece = self._find(self._position)
        if piece is not None and self._position + count <= piece.end:
            data = self._data(piece)
            offset = self._position - piece.start
            self._position += count
            return data if count == len(data) else data[offset : offset + count]
        buffer = BytesBuffer(count, huge_pages=self._config.huge_pages)
        self._fill(buffer.view)
        return buffer.take()

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer``, straight from the socket where it is large.

        Args:
            buffer: Writable, contiguous.

        Returns:
            How many bytes were written; fewer than the buffer holds only at the end.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError(f"the buffer must be writable, got a read-only {type(buffer).__name__}")
        if not view.nbytes:
            return 0
        if self._size is None:
            if view.nbytes >= _DIRECT and not self._pieces:
                return self._readinto_unknown(view)
            if not self._fetch_first(self._position):
                return 0
        count = min(view.nbytes, max(0, self.end - self._position))
        if count:
            self._fill(view[:count])
        return count

    def prefetch(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Start to fetch what will be read soon; returns at once.

        Args:
            ranges: First byte and byte after the last of each stretch; by default the next piece. What would exceed
                the stream's memory bound is left out.
        """
        self._check_open()
        wanted = list(ranges) or [(self._position, self._position + self._piece_size)]
        pending = self._held
        for start, end in wanted:
            if self._size is not None:
                end = min(end, self.end)  # noqa: PLW2901  # a range beyond the end is cut there
            if end <= start or self._find(start) is not None:
                continue
            pending += end - start
            if pending > self._limit:
                return
            self._start_piece(start, end)

    def start_range(self, start: int, end: int, into: Into = None) -> Transfer[GetResult]:
        """Start to fetch one range of the object, bound to this stream's ETag, past its buffers.

        Args:
            start: First byte.
            end: Byte after the last.
            into: Where it goes; fresh memory by default.

        Returns:
            The transfer; whoever waits for it drives all others, too.
        """
        self._check_open()
        request = self._request.narrow(start, end, self._etag, self._request.size)
        if start == 0 and self._size is not None and end >= self._size > 0:
            request = replace(request, start=None, end=None)  # for a whole object stores return its checksum
        return self._engine.start_get(request, into=into)

    def learn(self, info: GetInfo) -> None:
        """Hold the stream to what a response to `start_range` said of the object.

        Args:
            info: What the response's head said.

        Raises:
            ObjectChangedError: It is another object than the stream has read.
        """
        self._learn(info.size, info.etag)

    def lend(self, size: int) -> int:
        """Give part of the stream's memory bound to a caller who reads ahead by `start_range` into memory of his own.

        Args:
            size: Bytes wanted.

        Returns:
            Bytes the caller may use, as long as the stream is open: at most ``read_ahead * part_size`` over all calls.
        """
        lent = max(0, min(size, self._limit - self._config.part_size))
        self._limit -= lent
        self._make_room(0)
        return lent

    def close(self) -> None:
        """End all that is in flight and drop what is buffered."""
        self._closed = True
        for piece in self._pieces.values():
            if piece.transfer is not None:
                piece.transfer.cancel()
        self._pieces.clear()
        self._starts.clear()
        self._held = 0

    def __iter__(self) -> GetObjectStream:
        return self

    def __next__(self) -> bytes:
        """Return the next piece, at most ``part_size`` bytes, while the following ones are fetched in parallel."""
        self._check_open()
        self._piece_size = self._config.part_size
        if self._size is None and not self._fetch_first(self._position):
            raise StopIteration
        if self._position >= self.end:
            raise StopIteration
        piece = self._find(self._position) or self._fetch(self._position)
        self._read_ahead(piece)
        data = self._data(piece)
        data = data[self._position - piece.start :] if self._position > piece.start else data
        self._position += len(data)
        return data

    def __enter__(self) -> GetObjectStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at {self._position} of {'?' if self._size is None else self._size}"
        return f"<{type(self).__name__} s3://{self.bucket}/{self.key} {state}, {len(self._pieces)} pieces>"

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on a closed stream")

    def _learn(self, size: int, etag: str) -> None:
        """Take size and ETag from the first response, and hold every other to them."""
        if self._etag is not None and etag != self._etag:
            raise object_changed(self.bucket, self.key)
        self._etag = etag
        self._size = size

    def _read_unknown(self, size: int | None) -> bytes:
        """Read before anything is known of the object: one request for what is small, no HEAD for what is large."""
        end = self._request.end
        if size is not None:
            end = self._position + size if end is None else min(end, self._position + size)
        start = None if self._position == 0 and end is None else self._position
        request = replace(self._request, start=start, end=end, etag=self._etag, size=self._size)
        try:
            result = read_range(self._engine, self._config, request)
        except InvalidRangeError:  # the stream begins behind the object's end
            if self.size > self._position:
                raise
            return b""
        self._learn(result.info.size, result.info.etag)
        self._position += len(result.data)
        return result.data if isinstance(result.data, bytes) else bytes(result.data)

    def _readinto_unknown(self, view: memoryview) -> int:
        """Fill a large buffer before anything is known of the object: no HEAD, no piece first."""
        request = replace(self._request, start=self._position, end=self._request.end, etag=self._etag)
        try:
            info = read_available(self._engine, self._config, request, view)
        except InvalidRangeError:
            if self.size > self._position:
                raise
            return 0
        self._learn(info.size, info.etag)
        self._position += info.length
        return info.length

    def _meet(self, start: int) -> None:
        """Learn the size from the head of a response whose body, left in flight, is likely to be read next.

        Args:
            start: Its first byte; negative counts from the object's end.
        """
        if self._pieces:  # something is on its way already
            self._fetch_first(next(iter(self._pieces)))
            return
        info: GetInfo | None = None

        def allocate(head: GetInfo) -> memoryview:
            nonlocal info
            info = head
            return memoryview(bytearray(head.length))

        end = None if start < 0 else start + _FIRST_PIECE
        if end is not None and self._request.end is not None:
            end = min(end, self._request.end)
        if end is not None and end <= start:
            return
        transfer = self._engine.start_get(
            replace(self._request, start=start, end=end, etag=self._etag, size=None), allocate
        )
        try:
            transfer.wait(lambda: info is not None)
            if info is None:
                transfer.result()
        except InvalidRangeError:  # nothing there: the caller asks by HEAD
            return
        except BaseException:
            transfer.cancel()
            raise
        if info is not None:
            self._learn(info.size, info.etag)
            self._add_piece(_Piece(info.start, info.start + info.length, transfer))

    def _fetch_first(self, start: int) -> bool:
        """Fetch the first piece, which tells size and ETag; False where there is no byte at ``start``."""
        piece = self._find(start)
        try:
            if piece is None:
                self._fetch(start)
            else:
                self._data(piece)
        except InvalidRangeError:
            head = self._engine.head(self.bucket, self.key)
            if head.size > start:
                raise
            self._drop_all()
            self._learn(head.size, head.etag)
            return False
        return True

    def _fill(self, view: memoryview) -> None:
        """Fill ``view`` from the position on; the caller has made sure that so much is left."""
        filled = 0
        while filled < view.nbytes:
            piece = self._find(self._position)
            if piece is None:
                want = self._gap(self._position, self._position + view.nbytes - filled)
                if want >= _DIRECT:
                    request = replace(self._request, start=self._position, end=None, etag=self._etag, size=self._size)
                    read_into(self._engine, self._config, request, view[filled : filled + want])
                    filled += want
                    self._position += want
                    self._next_miss = self._position
                    continue
                piece = self._fetch(self._position)
            data = self._data(piece)
            offset = self._position - piece.start
            count = min(len(data) - offset, view.nbytes - filled)
            view[filled : filled + count] = memoryview(data)[offset : offset + count]
            filled += count
            self._position += count

    def _gap(self, start: int, end: int) -> int:
        """How many bytes from ``start`` on, up to ``end``, are in no piece."""
        following = bisect_right(self._starts, start)
        return (min(end, self._starts[following]) if following < len(self._starts) else end) - start

    def _find(self, position: int) -> _Piece | None:
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return None
        piece = self._pieces[self._starts[index]]
        return piece if position < piece.end else None

    def _fetch(self, start: int) -> _Piece:
        """Fetch the piece at ``start``; sequential reading makes pieces grow and runs ahead of the reader."""
        sequential = start == self._next_miss
        if sequential and start > self._base:
            self._piece_size = min(self._config.part_size, self._piece_size * 4)
        elif not sequential:
            self._piece_size = min(_FIRST_PIECE, self._piece_size)
        piece = self._start_piece(*self._bounds(start, self._piece_size))
        if sequential and start > self._base and self._size is not None:
            self._read_ahead(piece)
        self._data(piece)
        self._next_miss = piece.end
        return piece

    def _bounds(self, start: int, size: int) -> tuple[int, int]:
        """Place a piece that holds ``start``: before the end a tail is taken whole, backwards as far as it is new."""
        if self._size is None:
            end = start + size
            return start, end if self._request.end is None else min(end, self._request.end)
        end = start + self._gap(start, min(start + size, self.end))
        if end == self.end and end - start < size:
            index = bisect_right(self._starts, start) - 1
            floor = self._pieces[self._starts[index]].end if index >= 0 else self._base
            start = max(floor, end - size, self._base)
        return start, end

    def _read_ahead(self, piece: _Piece) -> None:
        """Start what follows a piece, as far as the memory bound has room beside it."""
        if self._size is None:
            return
        room = self._limit - (piece.end - piece.start)
        start, horizon = piece.end, piece.end + min(self._config.read_ahead * self._piece_size, room)
        while start < min(horizon, self.end):
            following = self._find(start)
            if following is None:
                end = start + self._gap(start, min(start + self._piece_size, self.end))
                if end > horizon:
                    return
                following = self._start_piece(start, end)
            start = following.end

    def _start_piece(self, start: int, end: int) -> _Piece:
        self._make_room(end - start)
        piece = _Piece(start, end, self.start_range(start, end))
        self._add_piece(piece)
        return piece

    def _add_piece(self, piece: _Piece) -> None:
        self._pieces[piece.start] = piece
        self._starts.insert(bisect_right(self._starts, piece.start), piece.start)
        self._held += piece.end - piece.start

    def _data(self, piece: _Piece) -> bytes:
        """Wait for a piece and return its bytes."""
        if piece.transfer is None:
            self._pieces.move_to_end(piece.start)
            return piece.data
        try:
            result = piece.transfer.result()
            self._learn(result.info.size, result.info.etag)
        except BaseException:
            self._drop(piece)
            raise
        piece.data = result.data if isinstance(result.data, bytes) else bytes(result.data)
        piece.transfer = None
        self._held += len(piece.data) - (piece.end - piece.start)
        piece.end = piece.start + len(piece.data)
        self._next_miss = max(self._next_miss, piece.end) if self._next_miss == piece.start else self._next_miss
        self._pieces.move_to_end(piece.start)
        return piece.data

    def _make_room(self, size: int) -> None:
        """Drop what was used longest ago until ``size`` more bytes fit the bound."""
        for piece in list(self._pieces.values()):
            if self._held + size <= self._limit:
                return
            if not piece.start <= self._position < piece.end:
                self._drop(piece)

    def _drop(self, piece: _Piece) -> None:
        if piece.transfer is not None:
            piece.transfer.cancel()
        if self._pieces.pop(piece.start, None) is not None:
            self._starts.remove(piece.start)
            self._held -= piece.end - piece.start

    def _drop_all(self) -> None:
        for piece in list(self._pieces.values()):
            self._drop(piece)
