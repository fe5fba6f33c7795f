"""Many stretches of objects, each into its own memory, in as few requests as make sense and many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from s3torch.client._memory_pages import advise_huge_pages
from s3torch.client.answers import check_fits, object_changed
from s3torch.client.config import S3ClientConfig
from s3torch.client.jobs import Job, ReadsEngine, run_jobs
from s3torch.client.parallel import plan_parts, read_part_size
from s3torch.client.protocols import Into
from s3torch.client.values import GetInfo, GetRequest, GetResult

__all__ = ["Fetch", "Piece", "Source", "plan_fetches", "read_pieces", "read_scattered"]

_KIB = 1024
# From here on a stretch gets requests of its own, which fill it without a copy.
_DIRECT = 512 * _KIB
# Smaller ones are fetched together up to this size; so much memory is held for each request in flight.
_LONGEST_RUN = 1024 * _KIB
# Bytes rather fetched than skipped with another request.
_LARGEST_GAP = 16 * _KIB


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of an object, and where its bytes go."""

    start: int
    """First byte in the object."""
    end: int
    """Byte after the last."""
    into: memoryview | Callable[[memoryview], None]
    """Writable, contiguous memory of that length, format ``B``; or a function that is lent the bytes, in one piece, in
    memory that may be changed. It runs in the thread that has fetched them."""

    def deliver(self, data: memoryview) -> None:
        """Put bytes that have come where they belong.

        Args:
            data: All bytes of the stretch, format ``B``.
        """
        if isinstance(self.into, memoryview):
            self.into[:] = data
        else:
            self.into(data)


Source: TypeAlias = "tuple[GetRequest, Sequence[Piece]]"
"""An object and the pieces of it that are wanted. With an ETag only that version of the object is read; without, the
first response tells which."""


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


def plan_fetches(
    stretches: Sequence[tuple[int, int]], part_size: int, uncut: Collection[int] = frozenset()
) -> list[Fetch]:
    """Choose the requests for stretches of one object.

    Args:
        stretches: First byte and byte after the last of each, in any order; they may overlap.
        part_size: Bytes in a request at most.
        uncut: Stretches that must come in one piece, by their place in the list, however long they are.

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
        if end - start >= _DIRECT and number in uncut:
            fetches.append(Fetch(start, end, (number,), is_direct=False))
        elif end - start >= _DIRECT:
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
    read_pieces(engine, config, [(request, [Piece(start, start + view.nbytes, view) for start, view in pieces])])


def read_pieces(
    engine: ReadsEngine, config: S3ClientConfig, sources: Iterable[Source], *, memory: int | None = None
) -> None:
    """Fetch many pieces of many objects, all at once.

    Args:
        engine: Where to read.
        config: Part size, connections and huge pages.
        sources: The objects and their pieces, each object once.
        memory: Bytes that may be held for pieces which do not go straight into memory of the caller's; None for as
            many as there are connections for. One request is always allowed.

    Raises:
        ObjectChangedError: The responses for one object were of more than one version.
        InvalidRangeError: An object ends before one of its pieces does.
        S3Exception: A request failed. The caller's memory may be half filled, and nothing touches it any more.
    """
    sources = list(sources)
    size = sum(piece.end - piece.start for _, pieces in sources for piece in pieces)
    part_size = read_part_size(size, config)
    jobs: list[Job] = []
    for request, pieces in sources:
        if config.huge_pages:
            for piece in pieces:
                if isinstance(piece.into, memoryview):
                    advise_huge_pages(piece.into)
        uncut = {number for number, piece in enumerate(pieces) if not isinstance(piece.into, memoryview)}
        version = _Version(request.etag)
        plan = plan_fetches([(piece.start, piece.end) for piece in pieces], part_size, uncut)
        jobs += [_job(request, version, pieces, fetch) for fetch in plan]
    run_jobs(engine, config.connections, jobs, size=size, memory=memory)


class _Version:
    """The version of an object that all responses must be of: the one of the first."""

    __slots__ = ("_seen",)

    def __init__(self, etag: str | None) -> None:
        self._seen = {} if etag is None else {"etag": etag}

    def check(self, request: GetRequest, info: GetInfo) -> None:
        """Hold a response to the others."""
        if self._seen.setdefault("etag", info.etag) != info.etag:  # atomic: the first of several threads decides
            raise object_changed(request.bucket, request.key)


def _job(request: GetRequest, version: _Version, pieces: Sequence[Piece], fetch: Fetch) -> Job:
    request = request.narrow(fetch.start, fetch.end, request.etag, request.size)
    length = fetch.end - fetch.start
    if fetch.is_direct:
        piece = pieces[fetch.stretches[0]]
        assert isinstance(piece.into, memoryview)  # noqa: S101  # only such are cut into parts
        view = piece.into[fetch.start - piece.start : fetch.end - piece.start]
        return Job(request, _checked(request, version, lambda: view))

    def hand_out(result: GetResult) -> None:
        data = memoryview(result.data)
        for number in fetch.stretches:
            piece = pieces[number]
            piece.deliver(data[piece.start - fetch.start : piece.end - fetch.start])

    # A bytearray is memory that the functions may change; it is made when the response begins, not before.
    return Job(request, _checked(request, version, lambda: memoryview(bytearray(length))), hand_out, memory=length)


def _checked(request: GetRequest, version: _Version, lay_out: Callable[[], memoryview]) -> Into:
    """Look at the head of the response before any of its bytes goes anywhere."""

    def begin(info: GetInfo) -> memoryview:
        version.check(request, info)
        view = lay_out()
        check_fits(request, view, info)
        return view

    return begin
