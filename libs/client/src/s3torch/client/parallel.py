"""One contiguous range read as parts, each straight into its place, several at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from s3torch.client._memory_pages import BytesBuffer, advise_huge_pages
from s3torch.client.config import S3ClientConfig
from s3torch.client.errors import InvalidRangeError, ProtocolError
from s3torch.client.protocols import Gets, Transfer
from s3torch.client.values import GetInfo, GetRequest, GetResult

__all__ = ["ReadsEngine", "plan_parts", "read_available", "read_into", "read_range"]


class ReadsEngine(Gets, Protocol):
    """What reading in parallel needs of an engine."""

    def helper_threads(self, size: int) -> int:
        """How many threads beside the caller's are worth their cost for a transfer of ``size`` bytes."""
        ...

    def release_thread(self) -> None:
        """Give back what the calling thread holds."""
        ...


def plan_parts(start: int, end: int, part_size: int) -> Iterator[tuple[int, int]]:
    """Cut ``[start, end)`` into parts of ``part_size`` bytes, the last one shorter.

    Args:
        start: First byte.
        end: Byte after the last.
        part_size: Bytes in a part.

    Yields:
        First byte and byte after the last of each part, in order.
    """
    for first in range(start, end, part_size):
        yield first, min(first + part_size, end)


def read_range(engine: ReadsEngine, config: S3ClientConfig, request: GetRequest) -> GetResult:
    """Read a range whose length may not be known yet into fresh memory.

    The first part is asked for with a range; its response tells the object's size and ETag, upon which the memory is
    laid out and the remaining parts start, while the first is still arriving.

    Args:
        engine: Where to read.
        config: Part size, connections and huge pages.
        request: What to read: a whole object or a range from ``start``.

    Returns:
        The bytes, in one piece.
    """
    start = request.start or 0
    if start < 0:
        return engine.start_get(request).result()
    known_end = request.end if request.size is None else min(request.end or request.size, request.size)
    if request.size is not None and known_end is not None and known_end - start <= config.part_size:
        if known_end <= start:
            return _nothing(engine, request, start)
        # Whole and small: one plain GET, for which stores return checksums.
        return engine.start_get(request if start or request.end is not None else replace(request, start=None)).result()
    buffer: BytesBuffer | None = None
    info: GetInfo | None = None

    def allocate(head: GetInfo) -> memoryview:
        nonlocal buffer, info
        info = head
        end = head.size if request.end is None else min(request.end, head.size)
        buffer = BytesBuffer(end - start, huge_pages=config.huge_pages)
        return buffer.view if head.length == end - start else buffer.view[: head.length]

    def fetch() -> bool:
        """Fill the memory; False for an empty object. When it returns no view of the memory is left but its own."""
        first_end = start + config.part_size if request.end is None else min(request.end, start + config.part_size)
        first = engine.start_get(replace(request, start=start, end=first_end), into=allocate)
        try:
            first.wait(lambda: info is not None)
            if buffer is None or info is None:
                try:
                    first.result()
                except InvalidRangeError:
                    if start == 0:  # an empty object has no first byte to give
                        return False
                    raise
                raise ProtocolError("the response's head was not seen", bucket=request.bucket, key=request.key)
            parts = _Parts(engine, config, replace(request, etag=info.etag), start, buffer.view, done=info.length)
            parts.run(first)
        except BaseException:
            first.cancel()
            raise
        return True

    if not fetch() or buffer is None or info is None:
        return _nothing(engine, request, 0)
    length = buffer.view.nbytes
    return GetResult(request, buffer.take(), replace(info, length=length))


def read_into(engine: ReadsEngine, config: S3ClientConfig, request: GetRequest, view: memoryview) -> None:
    """Fill ``view`` with the bytes of an object from ``request.start`` on.

    Args:
        engine: Where to read.
        config: Part size, connections and huge pages.
        request: The object and its first byte; ``end`` is taken from the view's length. Its ETag, where given, lets
            all parts start at once; else the first response pins it.
        view: Writable, contiguous, format ``B``; filled completely, or an error is raised.
    """
    start = request.start or 0
    if not view.nbytes:
        return
    if config.huge_pages:
        advise_huge_pages(view)
    if request.etag is not None or view.nbytes <= config.part_size:
        _Parts(engine, config, request, start, view, done=0).run(None)
        return
    etag: str | None = None

    def pin(head: GetInfo) -> memoryview:
        nonlocal etag
        etag = head.etag
        return view[: config.part_size]

    first = engine.start_get(replace(request, start=start, end=start + config.part_size), into=pin)
    try:
        first.wait(lambda: etag is not None)
        if etag is None:
            first.result()
        _Parts(engine, config, replace(request, etag=etag), start, view, done=config.part_size).run(first)
    except BaseException:
        first.cancel()
        raise


def read_available(engine: ReadsEngine, config: S3ClientConfig, request: GetRequest, view: memoryview) -> GetInfo:
    """Fill ``view`` as far as an object of unknown size has bytes from ``request.start`` on.

    Args:
        engine: Where to read.
        config: Part size, connections and huge pages.
        request: The object, its first byte and, optionally, the byte after the last.
        view: Writable, contiguous, format ``B``, not empty.

    Returns:
        What the first response said of the object; its ``length`` is how many bytes were written.

    Raises:
        InvalidRangeError: The object has no byte there.
    """
    start = request.start or 0
    if request.end is not None:
        view = view[: request.end - start]
    if config.huge_pages:
        advise_huge_pages(view)
    info: GetInfo | None = None

    def allocate(head: GetInfo) -> memoryview:
        nonlocal info
        info = head
        return view[: head.length]

    first_end = start + min(view.nbytes, config.part_size)
    first = engine.start_get(replace(request, start=start, end=first_end), into=allocate)
    try:
        first.wait(lambda: info is not None)
        if info is None:
            first.result()
            raise ProtocolError("the response's head was not seen", bucket=request.bucket, key=request.key)
        view = view[: info.size - start]
        _Parts(engine, config, replace(request, etag=info.etag), start, view, done=info.length).run(first)
    except BaseException:
        first.cancel()
        raise
    return replace(info, length=view.nbytes)


def _nothing(engine: Gets, request: GetRequest, start: int) -> GetResult:
    """Read an object that is said to be empty with a plain GET: the object may be gone or have grown meanwhile."""
    if start == 0 and request.end is None:
        return engine.start_get(replace(request, start=None, size=None)).result()
    return GetResult(request, b"", GetInfo(start, 0, request.size or 0, request.etag or ""))


class _Parts:
    """The parts of one destination that are still to be fetched, shared by the threads that fetch them."""

    def __init__(
        self, engine: ReadsEngine, config: S3ClientConfig, request: GetRequest, start: int, view: memoryview, done: int
    ) -> None:
        self._engine = engine
        self._request = request
        self._start = start
        self._view = view
        self._total = view.nbytes - done
        self._left = deque(plan_parts(start + done, start + view.nbytes, config.part_size))
        self._connections = config.connections
        self._error: BaseException | None = None

    def run(self, first: Transfer[GetResult] | None) -> None:
        """Fetch all parts, and finish ``first``, which the caller has started; returns when nothing is in flight."""
        helpers = min(self._engine.helper_threads(self._total), len(self._left))
        share = max(1, -(-self._connections // (helpers + 1)))
        threads = [
            threading.Thread(target=self._help, args=(share,), name="s3torch-read", daemon=True) for _ in range(helpers)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work(share, [] if first is None else [first])
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _help(self, share: int) -> None:
        try:
            self._work(share, [])
        except BaseException as error:  # noqa: BLE001  # raised by run() in the caller's thread
            self._error = self._error or error
        finally:
            self._engine.release_thread()

    def _work(self, share: int, flying: list[Transfer[GetResult]]) -> None:
        def is_some_done() -> bool:
            return self._error is not None or any(transfer.done() for transfer in flying)

        try:
            while self._error is None:
                while len(flying) < share and self._left:
                    try:
                        first, end = self._left.popleft()
                    except IndexError:  # another thread took the last one
                        break
                    part = self._view[first - self._start : end - self._start]
                    flying.append(self._engine.start_get(replace(self._request, start=first, end=end), into=part))
                if not flying:
                    return
                flying[0].wait(is_some_done)
                for transfer in [transfer for transfer in flying if transfer.done()]:
                    flying.remove(transfer)
                    transfer.result()
        finally:
            for transfer in flying:
                transfer.cancel()
