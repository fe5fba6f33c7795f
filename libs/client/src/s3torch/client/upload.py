"""An object written as a stream: large writes go from the caller's memory to the socket, small ones are gathered."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pickle import PickleBuffer
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from s3torch.client._part_buffers import PartBuffers
from s3torch.client._upload_plan import MOST_PARTS, equal_part_size, part_size_at, patience
from s3torch.client.config import S3ClientConfig
from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Body, Multiparts, Puts, Transfer
from s3torch.client.values import PartResult, PutOptions, PutResult

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["PutObjectStream", "UploadEngine", "put_object"]

_log = logging.getLogger(__name__)

# Between writes nobody drives the parts in flight, so small writes do, but not each of them.
_ADVANCE_EVERY = 256 * 1024
# Below this a copy costs less than waiting until the caller's memory is not needed any more.
_LEAST_BORROWED = 64 * 1024
_NOTHING = memoryview(b"")


class UploadEngine(Puts, Multiparts, Protocol):
    """What an upload needs of an engine."""


@dataclass(slots=True)
class _Part:
    """A part on its way."""

    transfer: Transfer[PartResult]
    body: Body
    buffer: memoryview | None
    """The buffer that holds pieces of its body, to be given back when it has arrived."""
    used: int
    """How many bytes of the buffer are in use."""
    borrowed: int
    """How many bytes at the end of its body lie in memory that the caller wants back."""


class PutObjectStream:
    """The bytes of an object to be, taken in writes of any size.

    What fits one part is one PUT when the stream is closed. Above that the object is uploaded in parts, several at
    once, that are sent straight from the memory handed to `write`; what does not fill a part is gathered in a buffer.
    Before `write` returns, what it was given has arrived or has been moved to a buffer; `lend` leaves it where it is
    and returns at once. The object becomes visible
    when `close` returns, and not at all if anything fails, `abort` is called or the stream is dropped without `close`:
    then the parts sent so far are deleted. Not for use by two threads at once.

    A process that is killed cannot delete its parts: nothing becomes visible, but a lifecycle rule
    (``AbortIncompleteMultipartUpload``) should clear them away.

    Args:
        engine: Where to write.
        config: Part size, connections and buffers.
        bucket: The bucket.
        key: The key.
        options: Storage class, metadata and so on; None is ``config.put_options``.
        size: Bytes in all, if known: then all parts but the last are equal, however large the object, and the last is
            not copied either; another number of bytes is an error. Otherwise parts have ``config.part_size`` bytes,
            and grow after 4,500 of them.
        clock: Seconds, monotonic.

    Memory held is at most ``config.upload_buffers`` parts.
    """

    def __init__(
        self,
        engine: UploadEngine,
        config: S3ClientConfig,
        bucket: str,
        key: str,
        options: PutOptions | None = None,
        *,
        size: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._closed = True  # until there is something to clean up
        self._engine = engine
        self._bucket = bucket
        self._key = key
        self._options = config.put_options if options is None else options
        self._size = size
        self._first_size = config.part_size if size is None else equal_part_size(size, config.part_size)
        self._connections = config.connections
        self._buffers = PartBuffers(config.upload_buffers, huge_pages=config.huge_pages)
        self._clock = clock
        self._position = 0
        self._pieces: list[memoryview] = []  # the next part as far as it is there
        self._filled = 0
        self._buffer: memoryview | None = None  # holds what of it was copied
        self._used = 0
        self._copied_last = False  # whether its last piece lies in the buffer
        self._flying: list[_Part] = []
        self._arrived: list[PartResult] = []
        self._number = 1  # of the next part
        self._part_size = self._first_size
        self._upload_id: str | None = None
        self._since_advance = 0
        self._result: PutResult | None = None
        self._error: BaseException | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self._bucket

    @property
    def key(self) -> str:
        """The key."""
        return self._key

    @property
    def closed(self) -> bool:
        """Whether `close` or `abort` was called."""
        return self._closed

    @property
    def result(self) -> PutResult | None:
        """What the store said of the object; None before `close` has returned."""
        return self._result

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def write(self, data: Buffer) -> int:
        """Take bytes, always all of them.

        Args:
            data: Contiguous memory of any format; it may change as soon as this returns.

        Returns:
            The number of its bytes.

        Raises:
            S3Exception: Some part could not be sent. The upload is aborted, and every later call raises this again.
            TypeError: ``data`` is not memory.
            ValueError: ``data`` is not contiguous or exceeds the size given, or the stream is closed.
        """
        return self._accept(data, self._take)

    def lend(self, data: Buffer) -> int:
        """Take bytes that stay as they are until the stream is closed: none is copied, and none is waited for.

        Parts are made of as many such pieces as it takes, and as many parts are in flight as there are connections. The
        stream holds the memory until its bytes have arrived. Each piece is sent by itself: `write` gathers small ones.

        Args:
            data: Contiguous memory of any format.

        Returns:
            The number of its bytes.

        Raises:
            S3Exception: As for `write`.
            TypeError: As for `write`.
            ValueError: As for `write`.
        """
        return self._accept(data, self._borrow)

    def close(self) -> None:
        """Send what is left and make the object visible; does nothing the second time.

        Raises:
            S3Exception: The upload failed, now or in an earlier write; it is aborted.
            ValueError: Fewer bytes were written than the size given; the upload is aborted.
        """
        if self._closed:
            return
        self._closed = True
        if self._error is not None:
            raise self._error
        try:
            self._result = self._finish()
        except BaseException as error:
            self._fail(error)
            raise
        self._release()

    def abort(self) -> None:
        """Give the upload up: no object, no parts; does nothing once closed."""
        if not self._closed:
            self._closed = True
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # A forked child drops its copy, too, and must leave the parent's upload alone.
        if not getattr(self, "_closed", True) and self._pid == os.getpid() and self._error is None:
            _log.warning("the upload to s3://%s/%s was never closed: it is aborted", self._bucket, self._key)
            self.abort()

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "closed" if self._closed else "open"
        return (
            f"<{type(self).__name__} s3://{self._bucket}/{self._key} {state} at {self._position}, "
            f"{len(self._arrived)} parts arrived, {len(self._flying)} in flight>"
        )

    def _accept(self, data: Buffer, take: Callable[[memoryview], None]) -> int:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ValueError("write to a closed upload")
        view = _byte_view(data)
        if self._size is not None and self._position + view.nbytes > self._size:
            raise ValueError(f"the upload's size was given as {self._size} bytes, and there are more")
        try:
            take(view)
        except BaseException as error:
            self._fail(error)
            raise
        self._position += view.nbytes
        return view.nbytes

    def _take(self, view: memoryview) -> None:
        start, size = 0, view.nbytes
        is_last = self._size == self._position + size
        while start < size:
            room = self._part_size - self._filled
            left = size - start
            # Exactly one part may be all there is, which is one PUT then.
            if (left <= room and self._upload_id is None) or (left < room and not is_last):
                self._keep(view[start:])
                break
            if 0 < room < _LEAST_BORROWED:
                self._keep(view[start : start + room])
                self._send(_NOTHING)
            else:
                self._send(view[start : start + room])
            start += room
        if any(part.borrowed for part in self._flying):
            self._settle()
        self._drive(size)

    def _borrow(self, view: memoryview) -> None:
        start, size = 0, view.nbytes
        while start < size:
            room = self._part_size - self._filled
            if not room:
                self._send(_NOTHING)
                continue
            piece = view[start : start + room]
            self._pieces.append(piece)
            self._copied_last = False
            self._filled += piece.nbytes
            start += piece.nbytes
        if self._filled == self._part_size and self._upload_id is not None:
            self._send(_NOTHING)
        self._drive(size)

    def _drive(self, size: int) -> None:
        """Let the parts in flight move after ``size`` more bytes were taken, if nobody has lately."""
        self._since_advance += size
        if self._flying and self._since_advance >= _ADVANCE_EVERY:
            self._flying[0].transfer.advance()
            self._reap()
            self._since_advance = 0

    def _keep(self, view: memoryview) -> None:
        """Copy what does not fill the next part."""
        buffer = self._buffer
        while buffer is None:
            buffer = self._buffer = self._buffers.take(self._part_size)
            if buffer is None:
                self._wait_for_one()
        start, end = self._used, self._used + view.nbytes
        buffer[start:end] = view
        if self._pieces and self._copied_last:
            start -= self._pieces.pop().nbytes
        self._pieces.append(buffer[start:end])
        self._copied_last = True
        self._used = end
        self._filled += view.nbytes

    def _send(self, piece: memoryview) -> None:
        """Start the next part: what there is of it, then ``piece`` of memory that the caller wants back."""
        if self._upload_id is None:
            self._upload_id = self._engine.create_multipart(self._bucket, self._key, self._options)
        if self._number > MOST_PARTS:
            raise S3Exception(
                f"the object needs more than {MOST_PARTS} parts",
                operation="UploadPart",
                bucket=self._bucket,
                key=self._key,
                remedy="Take a larger part_size.",
            )
        while len(self._flying) >= self._connections:
            self._wait_for_one()
        body = [*self._pieces, piece] if piece.nbytes else self._pieces
        transfer = self._engine.start_part(self._bucket, self._key, self._upload_id, self._number, body)
        self._flying.append(_Part(transfer, body, self._buffer, self._used, piece.nbytes))
        self._begin_part()
        self._number += 1
        self._part_size = part_size_at(self._number, self._first_size)
        if transfer.done():
            self._reap()

    def _settle(self) -> None:
        """Return when no part needs the caller's memory any more.

        While the parts move about as fast as memory they are waited for, as a copy would cost more. On a slower
        network what has not arrived is copied, as far as there are buffers, and goes on from there.
        """
        deadline = self._clock() + patience(sum(part.borrowed for part in self._flying))
        while any(part.borrowed for part in self._flying):
            left = deadline - self._clock()
            if left > 0:
                self._flying[0].transfer.advance(left)
                self._reap()
            elif not self._move_borrowed():
                self._wait_for_one()

    def _move_borrowed(self) -> bool:
        """Move what is borrowed into buffers, last part first, as it arrives last; False if there are too few."""
        for part in reversed(self._flying):
            if not part.borrowed or part.transfer.done():
                continue
            size = sum(piece.nbytes for piece in part.body)
            buffer = self._buffers.take(size) if part.buffer is None else part.buffer
            if buffer is None:
                return False
            end = part.used + part.borrowed
            buffer[part.used : end] = part.body[-1]
            part.body = [*part.body[:-1], buffer[part.used : end]]
            part.buffer, part.used, part.borrowed = buffer, end, 0
            part.transfer.rebase(part.body)
        self._reap()
        return True

    def _wait_for_one(self) -> None:
        self._flying[0].transfer.wait(self._is_some_done)
        self._reap()

    def _is_some_done(self) -> bool:
        return any(part.transfer.done() for part in self._flying)

    def _reap(self) -> None:
        """Take the results of the parts that have arrived."""
        flying = []
        for part in self._flying:
            if part.transfer.done():
                self._arrived.append(part.transfer.result())
                if part.buffer is not None:
                    self._buffers.give_back(part.buffer)
            else:
                flying.append(part)
        self._flying = flying

    def _finish(self) -> PutResult:
        if self._size is not None and self._position != self._size:
            raise ValueError(f"the upload's size was given as {self._size} bytes, but {self._position} were written")
        if self._upload_id is None and self._number == 1:
            return self._engine.start_put(self._bucket, self._key, self._pieces, self._options).result()
        if self._filled:
            self._send(_NOTHING)
        while self._flying:
            self._wait_for_one()
        assert self._upload_id is not None  # noqa: S101  # a second part exists only once the upload does
        self._arrived.sort(key=lambda part: part.number)
        return self._engine.complete_multipart(self._bucket, self._key, self._upload_id, self._arrived, self._options)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._drop()

    def _drop(self) -> None:
        """Cancel what is in flight and have the store forget what has arrived."""
        upload_id, self._upload_id = self._upload_id, None
        try:
            for part in self._flying:
                part.transfer.cancel()
        finally:
            self._release()
        if upload_id is None:
            return
        try:
            self._engine.abort_multipart(self._bucket, self._key, upload_id)
        except Exception as error:  # noqa: BLE001  # what made the upload fail is what the user must see
            _log.warning(
                "parts of the upload %s to s3://%s/%s may remain, as it could not be aborted: %s",
                upload_id,
                self._bucket,
                self._key,
                error,
            )

    def _release(self) -> None:
        self._flying = []
        self._begin_part()
        self._buffers.clear()

    def _begin_part(self) -> None:
        self._pieces, self._filled = [], 0
        self._buffer, self._used = None, 0
        self._copied_last = False


def put_object(
    engine: UploadEngine, config: S3ClientConfig, bucket: str, key: str, data: Buffer, options: PutOptions
) -> PutResult:
    """Write an object whose bytes are all there, in one request or, above one part, in equal parts at once.

    Args:
        engine: Where to write.
        config: Part size and connections.
        bucket: The bucket.
        key: The key.
        data: The bytes: contiguous memory, sent without a copy.
        options: Storage class, metadata and so on.

    Returns:
        What the store said of the object.
    """
    view = _byte_view(data)
    if view.nbytes <= config.part_size:
        return engine.start_put(bucket, key, [view] if view.nbytes else [], options).result()
    with PutObjectStream(engine, config, bucket, key, options, size=view.nbytes) as stream:
        stream.write(view)
    assert stream.result is not None  # noqa: S101  # close has returned
    return stream.result


def _byte_view(data: Buffer) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError("the data must be contiguous memory in C order")
    if not view.nbytes:
        return memoryview(b"")  # an empty shape cannot be cast
    if view.format == "B" and view.ndim == 1:
        return view
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a format that memoryview does not know, such as NumPy's complex
        return PickleBuffer(data).raw()
