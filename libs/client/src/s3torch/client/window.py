"""Many objects or ranges, in order, within a window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from s3torch.client._heap import keep_freed_memory
from s3torch.client._width import Pace, Reading, Width
from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Gets, Into, Transfer
from s3torch.client.values import GetRequest, GetResult

__all__ = ["Width", "Window", "get_many"]

T = TypeVar("T")

# What an object of unknown size counts for in the window, until others have told.
_ASSUMED_SIZE = 1024 * 1024
# While what comes next is there already, the others are looked after no more often than this: each look costs a system
# call and handles every connection that has received a little.
_LEAST_PAUSE_S = 0.002
# While enough is there already the next are begun several at a time: one by one, each would wake the server.
_BURST = 32
# Of many in flight the oldest are asked after every step whether they are done, all of them only now and then.
_OLDEST = 8


class Window(Generic[T]):
    """Fetches of items in the items' order: in flight, or done and waiting for those before them.

    Nothing runs but while somebody waits in `next`, or for any other transfer of the thread; in between, the kernel's
    socket buffers go on receiving.

    Args:
        engine: Where to read.
        items: What to fetch; drawn as the window moves.
        plan: Given an item, says what to fetch of it, None for nothing, and how many bytes that counts for.
        width: Requests in flight at most; as many again may wait to be delivered in order. Found by measuring.
        most_bytes: Bytes in flight or undelivered at most; one item is always allowed.
        into: Given an item, says where its bytes go; by default each into memory of its own.
        clock: Seconds, monotonic.
    """

    __slots__ = (
        "_clock",
        "_drawn",
        "_driven_at",
        "_engine",
        "_failure",
        "_has_driven",
        "_held",
        "_into",
        "_is_exhausted",
        "_is_full",
        "_items",
        "_most_bytes",
        "_pace",
        "_plan",
        "_queue",
        "_running",
        "_turns",
        "_was_full",
        "_width",
        "delivered",
        "idle_s",
        "in_flight_peak",
        "in_flight_sum",
        "size",
        "started",
        "waited_s",
    )

    def __init__(
        self,
        engine: Gets,
        items: Iterable[T],
        plan: Callable[[T], tuple[GetRequest | None, int]],
        *,
        width: Width,
        most_bytes: int,
        into: Callable[[T], Into] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        keep_freed_memory()
        self._engine = engine
        self._items = iter(items)
        self._plan = plan
        self._width = width
        self._most_bytes = most_bytes
        self._into = into
        self._queue: deque[tuple[T, Transfer[GetResult] | None, int]] = deque()
        self._running: deque[Transfer[GetResult]] = deque()  # those of the queue that are in flight, as far as known
        self._held = 0
        # Drawn and planned, but too large for what is left of the window.
        self._drawn: tuple[T, GetRequest | None, int] | None = None
        self._clock = clock
        self._driven_at = clock()
        self._has_driven = False  # since the last look at which are in flight
        self._is_exhausted = False
        self._failure: Exception | None = None  # what drawing has raised, to be raised in its turn
        self._is_full = False  # whether the number in flight is all that keeps the next from being started
        self._was_full = False  # the same, at any time since the pace was last looked at
        self._turns = 0
        self.started = 0
        """Requests begun."""
        self.delivered = 0
        """Items handed out."""
        self.size = 0
        """Bytes that those counted for."""
        self.waited_s = 0.0
        """Seconds for which the caller waited."""
        self.idle_s = 0.0
        """Those of them in which its thread had nothing to do."""
        self.in_flight_peak = 0
        """Requests in flight at most."""
        self.in_flight_sum = 0
        """Requests in flight, summed over the items handed out."""
        self._pace = Pace(width, self._read())

    def next(self) -> tuple[T, Transfer[GetResult] | None] | None:
        """Wait for the next item in order.

        Returns:
            The item and its fetch, which has ended with a result or an error, or None where nothing was to be fetched;
            None after the last item.

        Raises:
            Exception: What drawing the items raised, after those that were drawn before.
        """
        queue = self._queue
        while True:
            self._refill()
            if not queue:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return None
            item, transfer, size = queue[0]
            if transfer is None:
                self._has_driven = True  # whoever reads the item will have driven the others
                break
            if transfer.done():
                if self._clock() - self._driven_at >= _LEAST_PAUSE_S:
                    # Keep the others going: a caller that computes for long between items comes by only now and then.
                    self.advance()
                break
            before, busy = self._clock(), time.thread_time()
            # Not for this one alone, where each that ends makes room for another request.
            transfer.wait(self._has_room if self._is_full else None)
            self._driven_at = self._clock()
            self._has_driven = True
            waited = self._driven_at - before
            self.waited_s += waited
            self.idle_s += max(0.0, waited - (time.thread_time() - busy))
        queue.popleft()
        running = self._running
        if running and running[0] is transfer:
            running.popleft()
        self._held -= size
        self.delivered += 1
        self.size += size
        self.in_flight_sum += len(running)
        if self.delivered >= self._pace.look_at:
            self._pace.look(self._read(), was_full=self._was_full)
            self._was_full = False
        return item, transfer

    def advance(self, seconds: float = 0.0) -> None:
        """Drive what is in flight by what can be done now; wait at most ``seconds`` until something can."""
        for transfer in self._running:
            transfer.advance(seconds)  # moves all
            break
        self._driven_at = self._clock()
        self._has_driven = True

    def close(self) -> None:
        """End all that is in flight."""
        for _, transfer, _ in self._queue:
            if transfer is not None:
                transfer.cancel()
        self._queue.clear()
        self._running.clear()

    def _has_room(self) -> bool:
        running = self._running
        self._turns += 1
        oldest = running if self._turns % _OLDEST == 0 else islice(running, _OLDEST)
        return any(transfer.done() for transfer in oldest)

    def _refill(self) -> None:
        width, queue = self._width.value, self._queue
        if self._has_driven:
            self._has_driven = False
            if len(self._running) >= width:
                self._forget_done(width)
        running = self._running
        self._is_full = False
        if len(queue) > 2 * width - min(_BURST, max(1, width // 2)):
            return
        while len(queue) < 2 * width:
            if len(running) >= width:
                self._is_full = self._was_full = True
                break
            drawn = self._drawn or self._draw()
            if drawn is None:
                break
            item, request, size = drawn
            if request is None:
                queue.append((item, None, 0))
                continue
            if queue and self._held + size > self._most_bytes:
                self._drawn = drawn
                break
            self._drawn = None
            transfer = self._engine.start_get(request, None if self._into is None else self._into(item))
            queue.append((item, transfer, size))
            running.append(transfer)
            self._held += size
            self.started += 1
            if len(queue) == 1 and transfer.done():
                break  # an engine that does each at once (boto3, a cache): there is nothing to overlap with
        if len(running) > self.in_flight_peak:
            self.in_flight_peak = len(running)

    def _draw(self) -> tuple[T, GetRequest | None, int] | None:
        if self._is_exhausted:
            return None
        try:
            item = next(self._items)
            request, size = self._plan(item)
        except StopIteration:
            self._is_exhausted = True
            return None
        except Exception as error:  # noqa: BLE001  # those drawn before have their turn first
            self._failure, self._is_exhausted = error, True
            return None
        return item, request, size

    def _forget_done(self, width: int) -> None:
        """Drop from those in flight what has ended."""
        running = self._running
        # Most often the oldest have ended; to look through all of a wide window each time would cost much.
        while running and running[0].done():
            running.popleft()
        if len(running) >= width:
            self._running = deque([transfer for transfer in running if not transfer.done()])

    def _read(self) -> Reading:
        counts = getattr(self._engine, "counts", None)
        throttled = 0 if counts is None else counts.throttled
        return Reading(self._clock(), self.started, self.delivered, self.size, self.idle_s, throttled)


def get_many(
    engine: Gets,
    requests: Iterable[GetRequest],
    *,
    window: int | None,
    window_bytes: int,
    return_errors: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[GetResult | S3Exception]:
    """Fetch many objects or ranges, several at once, and yield them in the order asked.

    Nothing runs but while the caller waits in ``next()``; in between, the kernel's socket buffers go on receiving.

    Args:
        engine: Where to read.
        requests: What to read; pulled as the window moves.
        window: Requests in flight at most; as many again may wait to be delivered in order. None finds by measuring
            how many are worth it.
        window_bytes: Bytes in flight or undelivered at most; one request is always allowed. An object of unknown size
            counts for as much as those before it had on average.
        return_errors: Yield a request's error at its place and go on, rather than raise it.
        clock: Seconds, monotonic.

    Yields:
        The results, one for each request.

    Raises:
        S3Exception: At the place of the request that failed, unless ``return_errors``; what follows is cancelled.
    """
    sizes = _Sizes()
    moving = Window(engine, requests, sizes.plan, width=Width.bounded(window), most_bytes=window_bytes, clock=clock)
    try:
        while (following := moving.next()) is not None:
            _, transfer = following
            del following
            assert transfer is not None  # noqa: S101  # each has its request
            try:
                fetched = transfer.result()
                if fetched.request.size is None:
                    sizes.learn(len(fetched.data))
                result: GetResult | S3Exception = fetched
                del fetched
            except S3Exception as error:
                if not return_errors:
                    raise
                result = error
            del transfer  # the caller may hold the result for long; nothing else should
            yield result
    finally:
        moving.close()


class _Sizes:
    """What requests count for; those for objects of unknown size as much as others had on average."""

    __slots__ = ("_count", "_total")

    def __init__(self) -> None:
        self._count = self._total = 0

    def plan(self, request: GetRequest) -> tuple[GetRequest, int]:
        """Return the request and the bytes it counts for."""
        if request.start is not None and request.start < 0:
            return request, -request.start
        start = request.start or 0
        if request.end is not None:
            return request, request.end - start
        if request.size is None:
            return request, self._total // self._count if self._count else _ASSUMED_SIZE
        return request, max(0, request.size - start)

    def learn(self, size: int) -> None:
        """Take the size of one that was unknown."""
        self._count += 1
        self._total += size
