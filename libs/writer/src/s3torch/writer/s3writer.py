"""`S3Writer`: an upload as a file object."""

from __future__ import annotations

import io
import logging
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["S3Writer", "WritableStream"]

_log = logging.getLogger(__name__)


class WritableStream(Protocol):
    """What a writer writes to. One that also has ``abort()`` can be given up without anything becoming visible."""

    def write(self, data: Any, /) -> int | None:
        """Take bytes; return how many were taken, or None for all."""
        ...

    def close(self) -> object:
        """Make the object visible."""
        ...


class S3Writer(io.BufferedIOBase):
    """A write-only file of one S3 object.

    The object becomes visible when `close` returns, whole or not at all: an exception inside a ``with`` block, an
    `abort`, or dropping the writer without closing it leaves nothing behind. The first error of the store is the one
    that every later call raises, and that leaves a ``with`` block in place of what a library made of it; `torch.save`,
    for one, turns any exception of a write into a `RuntimeError`.

    Args:
        stream: Where to write, such as a `s3torch.client.PutObjectStream`. `abort` and everything that relies on it
            needs a stream that has ``abort()``; one without is never closed instead.
    """

    def __init__(self, stream: WritableStream) -> None:
        self.stream = stream
        """Where this writes."""
        self._position = 0
        self._error: BaseException | None = None
        self._pid = os.getpid()

    def write(self, data: Buffer) -> int:
        """Write bytes, always all of them.

        Args:
            data: Contiguous memory; it may change as soon as this returns.

        Returns:
            The number of bytes.

        Raises:
            S3Exception: They could not be sent.
            TypeError: ``data`` is not memory.
            ValueError: ``data`` is not contiguous, or the writer is closed.
        """
        if self._error is not None:
            raise self._error
        if self.closed:
            raise ValueError("write to a closed writer")
        view = memoryview(data)
        if not view.c_contiguous:
            raise ValueError("the data must be contiguous memory in C order")
        try:
            taken = self.stream.write(data)
            # A stream of somebody else's may take less at once.
            while taken is not None and taken < view.nbytes:
                if taken <= 0:
                    raise OSError(f"the stream took {taken} of {view.nbytes} bytes")
                self._position += taken
                view = view.cast("B")[taken:]
                taken = self.stream.write(view)
        except BaseException as error:
            self._error = error
            raise
        self._position += view.nbytes
        return memoryview(data).nbytes

    def close(self) -> None:
        """Make the object visible; does nothing the second time.

        Raises:
            S3Exception: Some byte could not be sent, now or in an earlier write; nothing becomes visible.
        """
        if self.closed:
            return
        try:
            if self._error is not None:
                self._abort_stream()
                raise self._error
            try:
                self.stream.close()
            except BaseException as error:
                self._error = error
                raise
        finally:
            super().close()

    def abort(self) -> None:
        """Close without making anything visible; does nothing once closed."""
        if not self.closed:
            try:
                self._abort_stream()
            finally:
                super().close()

    def flush(self) -> None:
        """Do nothing: only `close` can make bytes visible."""

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def __enter__(self) -> Self:
        if self.closed:
            raise ValueError("the writer is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self.abort()
        if self._error is not None and self._error is not error and _comes_from(error, self._error):
            raise self._error from None

    def __del__(self) -> None:
        # io would close it here, which would publish a part of an object. A forked child leaves it to the parent.
        try:
            if not self.closed and self._pid == os.getpid():
                self.abort()
        except Exception as error:  # noqa: BLE001  # nobody is there to catch it
            _log.warning("%s could not be aborted: %s", type(self).__name__, error)

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "closed" if self.closed else "open"
        return f"<{type(self).__name__} {state} at {self._position} of {self.stream!r}>"

    def _abort_stream(self) -> None:
        abort = getattr(self.stream, "abort", None)
        if abort is not None:
            abort()


def _comes_from(error: BaseException, origin: BaseException) -> bool:
    """Whether ``error`` was raised because of, or while handling, ``origin``."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        if following is origin:
            return True
        seen.add(id(following))
        following = following.__cause__ or following.__context__
    return False
