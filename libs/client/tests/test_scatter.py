from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import GetRequest, GetResult, ObjectChangedError, S3ClientConfig, ServerError, Transfer
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import EngineContext, Into
from s3torch.client.scatter import plan_fetches, read_scattered
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
