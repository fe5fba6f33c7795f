"""Many objects or ranges, in order, within a window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Gets, Transfer
from s3torch.client.values import GetRequest, GetResult

__all__ = ["get_many"]

# What an object of unknown size counts for in the window, until its response tells.
_ASSUMED_SIZE = 1024 * 1024
# While what comes next is there already, the others are looked after no more often than this: each look costs a system
# call and handles every connection that has received a little.
_LEAST_PAUSE_S = 0.002


def get_many(
    engine: Gets,
    requests: Iterable[GetRequest],
    *,
    window: int,
    window_bytes: int,
    return_errors: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[GetResult | S3Exception]:
    """Fetch many objects or ranges, several at once, and yield them in the order asked.

    Nothing runs but while the caller waits in ``next()``; in between, the kernel's socket buffers go on receiving.

    Args:
        engine: Where to read.
        requests: What to read; pulled as the window moves.
        window: Requests in flight at most; as many again may wait to be delivered in order.
        window_bytes: Bytes in flight or undelivered at most; one request is always allowed.
        return_errors: Yield a request's error at its place and go on, rather than raise it.
        clock: Seconds, monotonic.

    Yields:
        The results, one for each request.

    Raises:
        S3Exception: At the place of the request that failed, unless ``return_errors``; what follows is cancelled.
    """
    moving = _Window(engine, iter(requests), window, window_bytes, clock)
    try:
        while (transfer := moving.next_done()) is not None:
            try:
                result: GetResult | S3Exception = transfer.result()
            except S3Exception as error:
                if not return_errors:
                    raise
                result = error
            del transfer  # the caller may hold the result for long; nothing else should
            yield result
    finally:
        moving.cancel()


class _Window:
    """Transfers in order: in flight, or done and waiting for those before them."""

    __slots__ = (
        "_bytes",
        "_clock",
        "_drawn",
        "_driven_at",
        "_engine",
        "_has_driven",
        "_held",
        "_queue",
        "_running",
        "_source",
        "_width",
    )

    def __init__(
        self, engine: Gets, source: Iterator[GetRequest], width: int, size: int, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._source = source
        self._width = width
        self._bytes = size
        self._queue: deque[tuple[Transfer[GetResult], int]] = deque()
        self._running: deque[Transfer[GetResult]] = deque()  # those of the queue that are in flight, as far as known
        self._held = 0
        self._drawn: GetRequest | None = None  # drawn from the source, but too large for what is left of the window
        self._clock = clock
        self._driven_at = clock()
        self._has_driven = False  # since the last look at which are in flight

    def next_done(self) -> Transfer[GetResult] | None:
        """Wait for the next in order; None after the last."""
        while True:
            self._refill()
            if not self._queue:
                return None
            transfer, size = self._queue[0]
            if transfer.done():
                break
            # Not for this one alone: each that ends makes room for another request.
            transfer.wait(self._is_one_done)
            self._note_driven()
        if self._clock() - self._driven_at >= _LEAST_PAUSE_S:
            # Keep the others going: a caller that computes for long between items comes by only now and then.
            transfer.advance()
            self._note_driven()
        self._queue.popleft()
        if self._running and self._running[0] is transfer:
            self._running.popleft()
        self._held -= size
        return transfer

    def cancel(self) -> None:
        """End all that is in flight."""
        for transfer, _ in self._queue:
            transfer.cancel()
        self._queue.clear()

    def _note_driven(self) -> None:
        self._driven_at = self._clock()
        self._has_driven = True

    def _is_one_done(self) -> bool:
        return any(transfer.done() for transfer in self._running)

    def _refill(self) -> None:
        if self._has_driven:
            self._running = deque(transfer for transfer in self._running if not transfer.done())
            self._has_driven = False
        running = self._running
        while len(running) < self._width and len(self._queue) < 2 * self._width:
            request = self._drawn or next(self._source, None)
            if request is None:
                return
            size = _size(request)
            if self._queue and self._held + size > self._bytes:
                self._drawn = request
                return
            self._drawn = None
            transfer = self._engine.start_get(request)
            self._queue.append((transfer, size))
            self._held += size
            running.append(transfer)


def _size(request: GetRequest) -> int:
    if request.start is not None and request.start < 0:
        return -request.start
    start = request.start or 0
    if request.end is not None:
        return request.end - start
    return _ASSUMED_SIZE if request.size is None else max(0, request.size - start)
