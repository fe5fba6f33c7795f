"""One contiguous range read as parts, each straight into its place, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from s3torch.client._memory_pages import BytesBuffer, advise_huge_pages
from s3torch.client.config import S3ClientConfig
from s3torch.client.errors import InvalidRangeError, ProtocolError
from s3torch.client.jobs import Job, ReadsEngine, run_jobs
from s3torch.client.protocols import Gets, Transfer
from s3torch.client.values import GetInfo, GetRequest, GetResult

__all__ = ["plan_parts", "read_available", "read_into", "read_part_size", "read_range"]

_LEAST_PART = 2 * 1024 * 1024


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


def read_part_size(size: int, config: S3ClientConfig) -> int:
    """Choose the parts of a read: all connections get one, but none is too small to be worth its request.

    Args:
        size: Bytes to read.
        config: Connections, and the largest part.

    Returns:
        Bytes in a part.
    """
    return min(config.part_size, max(_LEAST_PART, -(-size // config.connections)))


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

    def lay_out(head: GetInfo) -> memoryview:
        nonlocal buffer
        end = head.size if request.end is None else min(request.end, head.size)
        buffer = BytesBuffer(end - start, huge_pages=config.huge_pages)
        return buffer.view

    length = config.part_size if request.end is None else min(request.end - start, config.part_size)
    try:
        info = _fetch_unpinned(engine, config, request, length, lay_out)
    except InvalidRangeError:
        if start == 0 and buffer is None:  # an empty object has no first byte to give
            return _nothing(engine, request, 0)
        raise
    assert buffer is not None  # noqa: S101  # laid out with the head
    # No view of the memory is left but the buffer's own: only then do its bytes need no copy.
    return GetResult(request, buffer.take(), info)


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
        _fetch_parts(engine, config, replace(request, start=start), view)
        return
    _fetch_unpinned(engine, config, replace(request, start=start), config.part_size, lambda _: view)


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
    length = min(view.nbytes, config.part_size)
    return _fetch_unpinned(engine, config, request, length, lambda head: view[: head.size - start])


def _nothing(engine: Gets, request: GetRequest, start: int) -> GetResult:
    """Read an object that is said to be empty with a plain GET: the object may be gone or have grown meanwhile."""
    if start == 0 and request.end is None:
        return engine.start_get(replace(request, start=None, size=None)).result()
    return GetResult(request, b"", GetInfo(start, 0, request.size or 0, request.etag or ""))


def _fetch_unpinned(
    engine: ReadsEngine,
    config: S3ClientConfig,
    request: GetRequest,
    length: int,
    lay_out: Callable[[GetInfo], memoryview],
) -> GetInfo:
    """Fill memory from ``request.start`` on, all parts bound to the ETag that the response to the first one tells.

    Args:
        engine: Where to read.
        config: Part size and connections.
        request: The object and the first byte.
        length: Bytes in the first part.
        lay_out: Is given what the head of the first response says, upon which the others start; returns the memory.

    Returns:
        What that head said, with the length of all.
    """
    start = request.start or 0
    view: memoryview | None = None
    info: GetInfo | None = None

    def begin(head: GetInfo) -> memoryview:
        nonlocal view, info
        view, info = lay_out(head), head
        return view if view.nbytes == length else view[:length]

    first = engine.start_get(request.narrow(start, start + length, request.etag, request.size), into=begin)
    try:
        first.wait(lambda: info is not None)
        if view is None or info is None:
            first.result()
            raise ProtocolError("the response's head was not seen", bucket=request.bucket, key=request.key)
        if info.length == view.nbytes:
            first.result()
            return info
        pinned = request.narrow(start, None, info.etag, info.size)
        _fetch_parts(engine, config, pinned, view, done=info.length, first=first)
    except BaseException:
        first.cancel()
        raise
    return replace(info, length=view.nbytes)


def _fetch_parts(
    engine: ReadsEngine,
    config: S3ClientConfig,
    request: GetRequest,
    view: memoryview,
    *,
    done: int = 0,
    first: Transfer[GetResult] | None = None,
) -> None:
    """Fill ``view`` but for its first ``done`` bytes, which ``first`` is filling."""
    start = request.start or 0
    left = view.nbytes - done
    jobs = (
        Job(request.narrow(at, end, request.etag, request.size), view[at - start : end - start])
        for at, end in plan_parts(start + done, start + view.nbytes, read_part_size(left, config))
    )
    run_jobs(engine, config.connections, jobs, size=left, first=first)
