"""Transforms in threads: several samples at once, handed on in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["map_in_order"]

T = TypeVar("T")
R = TypeVar("R")

# How long the caller waits for a sample before it looks after what is in flight.
_STEP_S = 0.002


def map_in_order(
    workers: int, call: Callable[[T], R], items: Iterator[T], advance: Callable[[], None]
) -> Generator[tuple[T, Future[R]], None, None]:
    """Call a function for each item, several at once, in threads that end with this.

    Twice as many items as there are threads are drawn and not handed on at most. Items are drawn in the caller's
    thread, and while it waits for a result, it goes on to do what else there is to do.

    Args:
        workers: How many threads.
        call: What to do with each item.
        items: The items; what drawing them raises is raised after the last one.
        advance: Called now and then while the next result is not there.

    Yields:
        Each item in order and its call, which has ended.
    """
    pending: deque[tuple[T, Future[R]]] = deque()
    failure: Exception | None = None
    is_exhausted = False
    pool = ThreadPoolExecutor(workers, thread_name_prefix="s3torch-transform")
    try:
        while True:
            while not is_exhausted and len(pending) < 2 * workers:
                try:
                    item = next(items)
                except StopIteration:
                    is_exhausted = True
                except Exception as error:  # noqa: BLE001  # raised below, in its turn
                    failure, is_exhausted = error, True
                else:
                    pending.append((item, pool.submit(call, item)))
                    del item
                    if len(pending) > workers and pending[0][1].done():
                        break  # what there is comes before what the network may keep waiting
            if not pending:
                break
            while not pending[0][1].done():
                wait((pending[0][1],), timeout=_STEP_S)
                advance()
            yield pending.popleft()
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # or it and this frame would hold each other
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
