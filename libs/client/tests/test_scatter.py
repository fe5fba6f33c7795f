from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import (
    GetRequest,
    GetResult,
    InvalidRangeError,
    ObjectChangedError,
    S3ClientConfig,
    ServerError,
    Transfer,
)
from s3torch.client.jobs import Job, run_jobs
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import EngineContext, Into
from s3torch.client.scatter import Piece, plan_fetches, read_pieces, read_scattered
from s3torch.client.transfers import DoneTransfer

KIB = 1024
MIB = 1024 * KIB
PART = 5 * MIB
DATA = os.urandom(3 * MIB)
CONFIG = S3ClientConfig(part_size=PART, max_connections=3)


class Engine(MemoryEngine):
    """Counts requests, may have helper threads, and fails from some request on."""

    def __init__(self, data: bytes = DATA, *, helpers: int = 0, failing: int = 10**9) -> None:
        store = MemoryStore()
        store.create_bucket("bucket")
        super().__init__(EngineContext("us-east-1", None, "test", CONFIG), store)
        self.helpers = helpers
        self.failing = failing
        self.requests: list[GetRequest] = []
        self.threads: set[int] = set()
        self.released = 0
        self.barrier: Callable[[], object] = lambda: None
        store.write("bucket", "key", data, CONFIG.put_options)

    @property
    def request(self) -> GetRequest:
        return GetRequest("bucket", "key", etag=self.store.find("bucket", "key").etag)

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        self.requests.append(request)
        self.threads.add(threading.get_ident())
        self.barrier()
        if len(self.requests) > self.failing:
            return DoneTransfer(error=ServerError("no more"))
        return super().start_get(request, into)

    def helper_threads(self, size: int) -> int:
        return self.helpers

    def release_thread(self) -> None:
        self.released += 1


STRETCHES = st.lists(
    st.tuples(st.integers(0, len(DATA)), st.integers(0, MIB)).map(lambda pair: (pair[0], min(sum(pair), len(DATA)))),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(stretches=STRETCHES, helpers=st.integers(0, 2))
def test_every_piece_gets_its_bytes(stretches: list[tuple[int, int]], helpers: int) -> None:
    engine = Engine(helpers=helpers)
    buffers = [bytearray(end - start) for start, end in stretches]
    read_scattered(
        engine, CONFIG, engine.request, [(s, memoryview(b)) for (s, _), b in zip(stretches, buffers, strict=True)]
    )
    for (start, end), buffer in zip(stretches, buffers, strict=True):
        assert buffer == DATA[start:end]
    assert all(request.etag == engine.request.etag for request in engine.requests)


@given(stretches=STRETCHES)
def test_a_plan_covers_each_stretch_with_requests_of_bounded_size(stretches: list[tuple[int, int]]) -> None:
    plan = plan_fetches(stretches, 768 * KIB)
    for fetch in plan:
        assert 0 < fetch.end - fetch.start <= MIB
    for number, (start, end) in enumerate(stretches):
        mine = [fetch for fetch in plan if number in fetch.stretches]
        at = start
        for fetch in mine:
            assert fetch.start <= at
            at = max(at, fetch.end)
        assert at >= end or start == end


def test_small_neighbours_share_a_request_and_large_stretches_are_cut() -> None:
    small = [(at, at + 10 * KIB) for at in range(0, 900 * KIB, 11 * KIB)]
    far = [(90 * MIB, 90 * MIB + 1)]
    large = [(10 * MIB, 22 * MIB)]
    plan = plan_fetches([*small, *far, *large], PART)
    assert [(fetch.start, fetch.end, fetch.is_direct) for fetch in plan] == [
        (0, small[-1][1], False),
        (10 * MIB, 15 * MIB, True),
        (15 * MIB, 20 * MIB, True),
        (20 * MIB, 22 * MIB, True),
        (90 * MIB, 90 * MIB + 1, False),
    ]


def test_three_hundred_small_pieces_take_few_requests() -> None:
    engine = Engine()
    pieces = [(at, memoryview(bytearray(9 * KIB))) for at in range(0, 300 * 10 * KIB, 10 * KIB)]
    read_scattered(engine, CONFIG, engine.request, pieces)
    assert len(engine.requests) <= 4


def test_helper_threads_share_the_work_and_give_their_connections_back() -> None:
    engine = Engine(helpers=2)
    engine.barrier = threading.Barrier(3, timeout=30).wait  # passes only if three threads ask at once
    view = memoryview(bytearray(3 * MIB))
    read_scattered(engine, CONFIG, engine.request, [(at, view[at : at + MIB]) for at in range(0, 3 * MIB, MIB)])
    assert bytes(view) == DATA
    assert len(engine.threads) == 3
    assert engine.released == 2


@pytest.mark.parametrize("helpers", [0, 2])
def test_an_error_ends_all(helpers: int) -> None:
    engine = Engine(failing=1, helpers=helpers)
    view = memoryview(bytearray(3 * MIB))
    with pytest.raises(ServerError):
        read_scattered(engine, CONFIG, engine.request, [(at, view[at : at + MIB]) for at in range(0, 3 * MIB, MIB)])
    assert "s3torch-read" not in [thread.name for thread in threading.enumerate()]


def test_an_object_replaced_meanwhile_is_an_error() -> None:
    engine = Engine()
    request = engine.request
    engine.store.write("bucket", "key", DATA[::-1], CONFIG.put_options)
    with pytest.raises(ObjectChangedError):
        read_scattered(engine, CONFIG, request, [(0, memoryview(bytearray(100)))])


def test_an_interrupt_cancels_what_is_in_flight() -> None:
    engine = Engine()
    cancelled: list[object] = []

    class Hanging(DoneTransfer[GetResult]):
        def done(self) -> bool:
            return False

        def wait(self, until: Callable[[], bool] | None = None) -> None:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            cancelled.append(self)

    def start_get(request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        return Hanging()

    engine.start_get = start_get  # type: ignore[method-assign,assignment]  # the engine under test is this one method
    view = memoryview(bytearray(3 * MIB))
    with pytest.raises(KeyboardInterrupt):
        read_scattered(engine, CONFIG, engine.request, [(at, view[at : at + MIB]) for at in range(0, 3 * MIB, MIB)])
    assert len(cancelled) == 3


@settings(deadline=None, max_examples=60)
@given(stretches=STRETCHES, helpers=st.integers(0, 2), memory=st.sampled_from([None, 1, MIB]), data=st.data())
def test_pieces_of_several_objects_come_together(
    stretches: list[tuple[int, int]], helpers: int, memory: int | None, data: st.DataObject
) -> None:
    engine = Engine(helpers=helpers)
    engine.store.write("bucket", "other", DATA[::-1], CONFIG.put_options)
    contents = {"key": DATA, "other": DATA[::-1]}
    found: dict[tuple[str, int], bytes] = {}
    buffers: dict[tuple[str, int], bytearray] = {}
    sources = []
    for key in contents:
        pieces = []
        for number, (start, end) in enumerate(stretches):
            if data.draw(st.booleans()):
                buffer = buffers[key, number] = bytearray(end - start)
                pieces.append(Piece(start, end, memoryview(buffer)))
            else:

                def take(view: memoryview, key: str = key, number: int = number) -> None:
                    assert not view.readonly
                    found[key, number] = bytes(view)

                pieces.append(Piece(start, end, take))
        sources.append((GetRequest("bucket", key), pieces))
    read_pieces(engine, CONFIG, sources, memory=memory)
    found.update({place: bytes(buffer) for place, buffer in buffers.items()})
    for key, content in contents.items():
        for number, (start, end) in enumerate(stretches):
            assert found.get((key, number), b"") == content[start:end]


def test_what_comes_in_one_piece_is_not_cut() -> None:
    plan = plan_fetches([(0, 12 * MIB), (12 * MIB, 24 * MIB)], PART, uncut={1})
    assert [(fetch.start, fetch.end, fetch.is_direct) for fetch in plan][-1] == (12 * MIB, 24 * MIB, False)
    assert len(plan) == 4


def test_an_object_replaced_between_the_first_responses_is_an_error() -> None:
    engine = Engine()

    def replace_it() -> None:
        if len(engine.requests) == 2:
            engine.store.write("bucket", "key", DATA[::-1], CONFIG.put_options)

    engine.barrier = replace_it
    view = memoryview(bytearray(3 * MIB))
    pieces = [Piece(at, at + MIB, view[at : at + MIB]) for at in range(0, 3 * MIB, MIB)]
    with pytest.raises(ObjectChangedError):
        read_pieces(engine, CONFIG, [(GetRequest("bucket", "key"), pieces)])


@pytest.mark.parametrize("length", [100, MIB])
def test_an_object_that_ends_before_a_piece_is_an_error(length: int) -> None:
    engine = Engine()
    piece = Piece(len(DATA) - length // 2, len(DATA) + length // 2, memoryview(bytearray(length)))
    with pytest.raises(InvalidRangeError):
        read_pieces(engine, CONFIG, [(GetRequest("bucket", "key"), [piece])])


@pytest.mark.parametrize("helpers", [0, 1])
def test_jobs_in_flight_hold_bounded_memory(helpers: int) -> None:
    engine = Engine(helpers=helpers)
    lock = threading.Lock()
    held = most = 0

    class Late(DoneTransfer[GetResult]):
        """Not done before somebody waits, as on a real network."""

        __slots__ = ("waited",)
        waited: bool

        def done(self) -> bool:
            return self.waited

        def wait(self, until: Callable[[], bool] | None = None) -> None:
            self.waited = True

    def start_get(request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        transfer = Late(MemoryEngine.start_get(engine, request, into).result())
        transfer.waited = False
        return transfer

    def finish(result: GetResult) -> None:
        nonlocal held
        with lock:
            held -= 1

    engine.start_get = start_get  # type: ignore[method-assign,assignment]  # the engine under test is this one method
    request = GetRequest("bucket", "key", 0, 100)
    for memory, limit in ((None, 8), (400, 4), (1, 1 + helpers)):
        held = most = 0
        jobs = [Job(request, finish=finish, memory=100) for _ in range(20)]
        run_jobs(engine, 8, jobs, size=2000, memory=memory)
        assert held == 0
        assert most <= limit
        if not helpers:
            assert most == limit
