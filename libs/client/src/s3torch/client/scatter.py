"""Many stretches of one object, each into its own memory, in as few requests as make sense and many of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s3torch.client._memory_pages import advise_huge_pages
from s3torch.client.config import S3ClientConfig
from s3torch.client.jobs import Job, ReadsEngine, run_jobs
from s3torch.client.parallel import plan_parts, read_part_size
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
    size = sum(view.nbytes for _, view in pieces)
    plan = plan_fetches([(start, start + view.nbytes) for start, view in pieces], read_part_size(size, config))
    run_jobs(engine, config.connections, [_job(request, pieces, fetch) for fetch in plan], size=size)


def _job(request: GetRequest, pieces: Sequence[tuple[int, memoryview]], fetch: Fetch) -> Job:
    request = request.narrow(fetch.start, fetch.end, request.etag, request.size)
    if fetch.is_direct:
        start, view = pieces[fetch.stretches[0]]
        return Job(request, view[fetch.start - start : fetch.end - start])

    def hand_out(result: GetResult) -> None:
        data = memoryview(result.data)
        for number in fetch.stretches:
            start, view = pieces[number]
            view[:] = data[start - fetch.start : start - fetch.start + view.nbytes]

    return Job(request, finish=hand_out)
