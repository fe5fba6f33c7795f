"""Fetches that belong together: several at once, on as many threads as the engine finds worth their cost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from s3torch.client.protocols import Gets, Into, Transfer
from s3torch.client.values import GetRequest, GetResult

__all__ = ["Job", "ReadsEngine", "run_jobs"]


class ReadsEngine(Gets, Protocol):
    """What reading in parallel needs of an engine."""

    def helper_threads(self, size: int) -> int:
        """How many threads beside the caller's are worth their cost for a transfer of ``size`` bytes."""
        ...

    def release_thread(self) -> None:
        """Give back what the calling thread holds."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One fetch."""

    request: GetRequest
    """What to read."""
    into: Into = None
    """Where it goes."""
    finish: Callable[[GetResult], None] | None = None
    """Takes the result, in the thread that fetched it."""
    memory: int = 0
    """Bytes of memory that are taken when it starts and given back when it has finished."""


def run_jobs(
    engine: ReadsEngine,
    connections: int,
    jobs: Iterable[Job],
    *,
    size: int,
    first: Transfer[GetResult] | None = None,
    memory: int | None = None,
) -> None:
    """Do all jobs.

    Args:
        engine: Where to read.
        connections: How many fetches are in flight at most.
        jobs: What to fetch.
        size: Bytes of all jobs together.
        first: A transfer that has been started already and is to be finished with the others.
        memory: Bytes that jobs in flight may hold together; None for any number. One job is always allowed.

    Raises:
        S3Exception: The first error of all; what was still in flight is cancelled. Whether this returns or raises, no
            transfer touches its memory any more.
    """
    _Crew(engine, connections, deque(jobs), size, memory).run(first)


class _Crew:
    """The threads that do the jobs: the caller's and its helpers, which end with the last job."""

    def __init__(self, engine: ReadsEngine, connections: int, jobs: deque[Job], size: int, memory: int | None) -> None:
        self._engine = engine
        self._jobs = jobs
        self._helpers = min(engine.helper_threads(size), max(0, len(jobs) - 1))
        self._share = max(1, -(-connections // (self._helpers + 1)))
        # Each thread has its share of the memory, as of the connections: none waits for another.
        self._memory = None if memory is None else memory // (self._helpers + 1)
        self._lock = threading.Lock()
        self._error: BaseException | None = None  # a helper's first
        self._is_stopped = False

    def run(self, first: Transfer[GetResult] | None) -> None:
        threads = [threading.Thread(target=self._help, name="s3torch-read", daemon=True) for _ in range(self._helpers)]
        for thread in threads:
            thread.start()
        try:
            self._work([] if first is None else [(first, None)])
        except BaseException:
            self._is_stopped = True
            raise
        finally:
            for thread in threads:
                thread.join()
            error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it and this frame would hold each other, and the caller's memory

    def _help(self) -> None:
        try:
            self._work([])
        except BaseException as error:  # noqa: BLE001  # raised by run() in the caller's thread
            self._error = self._error or error
            self._is_stopped = True
        finally:
            self._engine.release_thread()

    def _work(self, flying: list[tuple[Transfer[GetResult], Job | None]]) -> None:
        def is_some_done() -> bool:
            return self._is_stopped or any(transfer.done() for transfer, _ in flying)

        held = 0
        try:
            while not self._is_stopped:
                while len(flying) < self._share and (job := self._draw(held)) is not None:
                    held += job.memory
                    flying.append((self._engine.start_get(job.request, into=job.into), job))
                if not flying:
                    return
                flying[0][0].wait(is_some_done)
                for item in [item for item in flying if item[0].done()]:
                    flying.remove(item)
                    transfer, done = item
                    result = transfer.result()
                    if done is not None:
                        if done.finish is not None:
                            done.finish(result)
                        held -= done.memory
                    del transfer, result, item  # with them goes the memory
        finally:
            for transfer, _ in flying:
                transfer.cancel()

    def _draw(self, held: int) -> Job | None:
        """Take the next job, if there is one and memory for it beside ``held`` bytes."""
        with self._lock:
            if not self._jobs:
                return None
            if held and self._memory is not None and held + self._jobs[0].memory > self._memory:
                return None
            return self._jobs.popleft()
