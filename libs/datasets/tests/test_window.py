from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3torch.client import (
    EngineContext,
    GetResult,
    ObjectInfo,
    ObjectNotFoundError,
    S3BucketKeyData,
    S3ClientConfig,
    Transfer,
)
from s3torch.client.window import Width, Window
from s3torch.datasets._window import FetchPlan

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, RecordingEngine

PART_SIZE = 1000
MIB = 2**20


def run_ahead(
    engine: RecordingEngine,
    items: Iterable[S3BucketKeyData],
    *,
    window: int,
    window_bytes: int,
    clock: Callable[[], float] = lambda: 0.0,  # on which nobody ever takes long
) -> Generator[tuple[S3BucketKeyData, Transfer[GetResult] | None], None, None]:
    ahead = Window(
        engine, items, FetchPlan(PART_SIZE), width=Width(window, window), most_bytes=window_bytes, clock=clock
    )
    try:
        while (following := ahead.next()) is not None:
            yield following
    finally:
        ahead.close()


def item(place: Place, key: str, size: int | None) -> S3BucketKeyData:
    etag = place.store.find(place.bucket, key).etag if key in place.store.objects(place.bucket) else "etag"
    return S3BucketKeyData(place.bucket, key, None if size is None else ObjectInfo(key, etag, size, 0))


def engine_of(place: Place) -> RecordingEngine:
    return place.engine(EngineContext("us-east-1", None, "test", S3ClientConfig()))


def test_small_objects_are_fetched_whole_with_their_etag() -> None:
    request, size = FetchPlan(PART_SIZE)(S3BucketKeyData("b", "k", ObjectInfo("k", '"e"', PART_SIZE, 0)))
    assert request is not None
    assert (request.start, request.end, request.etag, request.size) == (None, None, '"e"', PART_SIZE)
    assert size == PART_SIZE


@pytest.mark.parametrize("size", [0, PART_SIZE + 1])
def test_empty_and_large_objects_are_left_to_their_reader(size: int) -> None:
    assert FetchPlan(PART_SIZE)(S3BucketKeyData("b", "k", ObjectInfo("k", '"e"', size, 0))) == (None, 0)


@pytest.mark.parametrize(
    ("seen", "first", "counted"),
    [
        ([], MIB, MIB),
        ([100, 300], MIB, 200),
        ([2 * MIB], 4 * MIB, 2 * MIB),
        ([2**30], 8 * MIB, 8 * MIB),
        ([0, 0], MIB, 0),
    ],
)
def test_of_what_nothing_is_known_of_so_much_is_fetched_as_others_had(
    seen: list[int], first: int, counted: int
) -> None:
    plan = FetchPlan(8 * MIB)
    for size in seen:
        plan.learn(size)
    request, size = plan(S3BucketKeyData("b", "k"))
    assert request is not None
    assert (request.start, request.end, size) == (0, first, counted)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 2 * PART_SIZE)), max_size=30),
    window=st.integers(1, 6),
    window_bytes=st.integers(1, 5000),
)
def test_order_and_bounds_hold(memory: Place, sizes: list[int | None], window: int, window_bytes: int) -> None:
    memory.fill({str(index): bytes(size or 7) for index, size in enumerate(sizes)})
    engine = engine_of(memory)
    items = [item(memory, str(index), size) for index, size in enumerate(sizes)]
    drawn = 0

    def source() -> Iterator[S3BucketKeyData]:
        nonlocal drawn
        for one in items:
            drawn += 1
            yield one

    given_out = 0
    for one, transfer in run_ahead(engine, source(), window=window, window_bytes=window_bytes):
        assert one is items[given_out]
        given_out += 1
        assert drawn - given_out <= 2 * window + 1  # one may wait for room
        assert engine.in_flight <= window
        flying = [transfer.inner.result().info.length for transfer in engine.flying if not transfer.ended]
        assert len(flying) <= 1 or sum(flying) <= window_bytes
        size = sizes[int(one.key)]
        assert (transfer is None) == (size is not None and not 0 < size <= PART_SIZE)
        if transfer is not None:
            assert transfer.done()
            assert len(transfer.result().data) == (size or 7)
    assert given_out == len(items)


def test_the_next_objects_are_under_way_while_one_is_consumed(memory: Place) -> None:
    memory.fill({str(index): b"1234" for index in range(10)})
    engine = engine_of(memory)
    items = [item(memory, str(index), 4) for index in range(10)]
    ahead = run_ahead(engine, items, window=4, window_bytes=10**6)
    next(ahead)
    assert memory.events == [f"get {index}" for index in range(5)]  # the last in the place of the one that is here
    assert engine.in_flight == 4
    next(ahead)
    assert memory.events[5:] == ["get 5"]
    assert engine.in_flight == 4
    ahead.close()


def test_what_is_done_already_still_moves_the_others(memory: Place) -> None:
    memory.fill({str(index): b"1234" for index in range(3)})
    engine = engine_of(memory)
    items = [item(memory, str(index), 4) for index in range(3)]
    now = 0.0
    ahead = run_ahead(engine, items, window=3, window_bytes=10**6, clock=lambda: now)
    next(ahead)
    engine.flying[1].ended = True
    now = 1.0  # the consumer has computed
    next(ahead)
    assert memory.events[-1] == "advance 1"


def test_leaving_early_cancels_what_is_under_way(memory: Place) -> None:
    memory.fill({str(index): b"1234" for index in range(5)})
    engine = engine_of(memory)
    items = (item(memory, str(index), 4) for index in range(5))
    ahead = run_ahead(engine, items, window=3, window_bytes=10**6)
    assert [one.key for one, _ in islice(ahead, 2)] == ["0", "1"]
    ahead.close()
    assert memory.events[-3:] == ["cancel 2", "cancel 3", "cancel 4"]
    assert engine.in_flight == 0


def test_an_error_of_the_source_waits_for_its_turn(memory: Place) -> None:
    memory.fill({"0": b"1234", "1": b"1234"})
    engine = engine_of(memory)

    def source() -> Iterator[S3BucketKeyData]:
        yield item(memory, "0", 4)
        yield item(memory, "1", 4)
        raise PermissionError("the second page")

    ahead = run_ahead(engine, source(), window=2, window_bytes=10**6)
    assert [one.key for one, _ in islice(ahead, 2)] == ["0", "1"]
    with pytest.raises(PermissionError):
        next(ahead)
    assert engine.in_flight == 0


def test_an_error_waits_for_its_turn(memory: Place) -> None:
    memory.fill({"0": b"1234", "2": b"1234"})
    engine = engine_of(memory)
    items = [item(memory, str(index), 4) for index in range(3)]
    results = []
    for _, transfer in run_ahead(engine, items, window=3, window_bytes=10**6):
        assert transfer is not None
        try:
            results.append(transfer.result().data)
        except ObjectNotFoundError:
            results.append(b"missing")
    assert results == [b"1234", b"missing", b"1234"]
