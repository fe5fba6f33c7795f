"""Many stretches of one object, each into its own memory, in as few requests as make sense and many of them at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from s3torch.client._memory_pages import advise_huge_pages
from s3torch.client.config import S3ClientConfig
from s3torch.client.parallel import ReadsEngine, plan_parts
from s3torch.client.protocols import Transfer
from s3torch.client.values import GetRequest, GetResult

__all__ = ["Fetch", "plan_fetches", "read_scattered"]

_KIB = 1024
# From here on a stretch gets requests of its own, which fill it without a copy.
_DIRECT = 512 * _KIB
# Smaller ones are fetched together up to this size; so much memory is held for each request in flight.
_LONGEST_RUN = 1024 * _KIB
# Bytes rather fetched than skipped with another request.
_LARGEST_GAP = 16 * _KIB


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request: a part of one stretch, or a run of small stretches."""

    start: int
    """First byte in the object."""
    end: int
    """Byte after the last."""
    stretches: tuple[int, ...]
    """Which stretches it serves, by their place in the list that was planned."""
    is_direct: bool
    """Whether it goes straight into the only stretch's memory."""


def plan_fetches(stretches: Sequence[tuple[int, int]], part_size: int) -> list[Fetch]:
    """Choose the requests for stretches of one object.

    Args:
        stretches: First byte and byte after the last of each, in any order; they may overlap.
        part_size: Bytes in a request at most.

    Returns:
        The requests, in the object's order.
    """
    fetches: list[Fetch] = []
    run: list[int] = []
    run_start = run_end = 0

    def end_run() -> None:
        if run:
            fetches.append(Fetch(run_start, run_end, tuple(run), is_direct=False))
            run.clear()

    for number in sorted(range(len(stretches)), key=lambda number: stretches[number]):
        start, end = stretches[number]
        if end - start >= _DIRECT:
            fetches += [
                Fetch(first, last, (number,), is_direct=True) for first, last in plan_parts(start, end, part_size)
            ]
        elif end > start:
            if run and (start - run_end > _LARGEST_GAP or max(end, run_end) - run_start > _LONGEST_RUN):
                end_run()
            if not run:
                run_start, run_end = start, end
            run.append(number)
            run_end = max(run_end, end)
    end_run()
    fetches.sort(key=lambda fetch: fetch.start)
    return fetches


def read_scattered(
    engine: ReadsEngine, config: S3ClientConfig, request: GetRequest, pieces: Iterable[tuple[int, memoryview]]
) -> None:
    """Fill many pieces of memory from one object.

    Args:
        engine: Where to read.
        config: Part size, connections and huge pages.
        request: The object. Its ETag should be given: it is what holds all requests to one version of the object.
        pieces: First byte in the object and the memory to be filled from there: writable, contiguous, format ``B``.

    Raises:
        S3Exception: A request failed; the memory may be half filled, and nothing touches it any more.
    """
    pieces = list(pieces)
    if config.huge_pages:
        for _, view in pieces:
            advise_huge_pages(view)
    plan = plan_fetches([(start, start + view.nbytes) for start, view in pieces], config.part_size)
    _Scatter(engine, config, request, pieces, plan).run()


class _Scatter:
    """The fetches that are still to be made, shared by the threads that make them."""

    def __init__(
        self,
        engine: ReadsEngine,
        config: S3ClientConfig,
        request: GetRequest,
        pieces: Sequence[tuple[int, memoryview]],
        plan: Sequence[Fetch],
    ) -> None:
        self._engine = engine
        self._connections = config.connections
        self._request = request
        self._pieces = pieces
        self._left = deque(plan)
        self._total = sum(fetch.end - fetch.start for fetch in plan)
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make all fetches; nothing is in flight any more when this returns or raises."""
        helpers = min(self._engine.helper_threads(self._total), max(0, len(self._left) - 1))
        share = max(1, -(-self._connections // (helpers + 1)))
        threads = [
            threading.Thread(target=self._help, args=(share,), name="s3torch-read", daemon=True) for _ in range(helpers)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work(share)
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
            self._work(share)
        except BaseException as error:  # noqa: BLE001  # raised by run() in the caller's thread
            self._error = self._error or error
        finally:
            self._engine.release_thread()

    def _work(self, share: int) -> None:
        flying: list[tuple[Transfer[GetResult], Fetch]] = []

        def is_some_done() -> bool:
            return self._error is not None or any(transfer.done() for transfer, _ in flying)

        try:
            while self._error is None:
                while len(flying) < share and self._left:
                    try:
                        fetch = self._left.popleft()
                    except IndexError:  # another thread took the last one
                        break
                    flying.append((self._start(fetch), fetch))
                if not flying:
                    return
                flying[0][0].wait(is_some_done)
                for item in [item for item in flying if item[0].done()]:
                    flying.remove(item)
                    self._finish(item[0].result(), item[1])
        finally:
            for transfer, _ in flying:
                transfer.cancel()

    def _start(self, fetch: Fetch) -> Transfer[GetResult]:
        request = replace(self._request, start=fetch.start, end=fetch.end)
        if not fetch.is_direct:
            return self._engine.start_get(request)
        start, view = self._pieces[fetch.stretches[0]]
        return self._engine.start_get(request, into=view[fetch.start - start : fetch.end - start])

    def _finish(self, result: GetResult, fetch: Fetch) -> None:
        if fetch.is_direct:
            return
        data = memoryview(result.data)
        for number in fetch.stretches:
            start, view = self._pieces[number]
            view[:] = data[start - fetch.start : start - fetch.start + view.nbytes]
