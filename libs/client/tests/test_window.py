"""The window of `get_many` holds its bounds, keeps order whatever ends first, and ends what nobody waits for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from s3torch.client import GetInfo, GetRequest, GetResult, S3Exception
from s3torch.client.protocols import Body, Into
from s3torch.client.window import Width, Window, get_many


class Slow:
    """A transfer that takes some steps; every step of one drives all, as a loop does."""

    def __init__(self, engine: SlowEngine, request: GetRequest, steps: int) -> None:
        self.engine = engine
        self.request = request
        self.steps = steps
        self.is_cancelled = False

    def done(self) -> bool:
        return self.steps <= 0

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        while not self.done() and not (until is not None and until()):
            self.engine.step()

    def advance(self, seconds: float = 0.0) -> None:
        self.engine.step()

    def result(self) -> GetResult:
        self.wait()
        if self.request.key == "bad":
            raise S3Exception("bad")
        if self.request.key == "worse":
            raise KeyboardInterrupt
        return GetResult(self.request, b"", GetInfo(0, 0, 0, ""))

    def cancel(self) -> None:
        if not self.done():
            self.is_cancelled = True
            self.steps = 0

    def rebase(self, body: Body) -> None:
        raise AssertionError("not for downloads")


class SlowEngine:
    """Starts transfers and sees how many are in flight."""

    def __init__(self, steps: Callable[[], int] = lambda: 3) -> None:
        self.steps = steps
        self.started: list[Slow] = []
        self.most_running = 0
        self.most_bytes = 0

    def start_get(self, request: GetRequest, into: Into = None) -> Slow:
        self.started.append(Slow(self, request, self.steps()))
        running = [transfer for transfer in self.started if not transfer.done()]
        self.most_running = max(self.most_running, len(running))
        self.most_bytes = max(self.most_bytes, sum(size(transfer.request) for transfer in running))
        return self.started[-1]

    def step(self) -> None:
        for transfer in self.started:
            transfer.steps -= 1


def size(request: GetRequest) -> int:
    return (request.end or 0) - (request.start or 0)


def ask(count: int, each: int = 10) -> list[GetRequest]:
    return [GetRequest("b", f"k{number}", 0, each) for number in range(count)]


def run(engine: SlowEngine, requests: list[GetRequest], window: int = 4, window_bytes: int = 1000) -> list[object]:
    return list(get_many(engine, requests, window=window, window_bytes=window_bytes, return_errors=True))


@pytest.mark.parametrize("seed", range(20))
def test_order_and_bounds_hold_whatever_ends_first(seed: int) -> None:
    chance = random.Random(seed)
    engine = SlowEngine(lambda: chance.choice([0, 1, 1, 5, 30]))
    requests = ask(50)
    window = chance.choice([1, 2, 7])
    results = run(engine, requests, window)
    assert [result.request for result in results if isinstance(result, GetResult)] == requests
    assert engine.most_running <= window


def test_the_window_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SlowEngine()
    run(engine, ask(50), window=8)
    assert engine.most_running == 8


@pytest.mark.parametrize("window_bytes", [1, 10, 35])
def test_bytes_are_bounded_but_one_request_is_always_allowed(window_bytes: int) -> None:
    engine = SlowEngine()
    assert len(run(engine, ask(20), window=100, window_bytes=window_bytes)) == 20
    assert engine.most_bytes <= max(10, window_bytes)


def test_a_slow_first_does_not_stop_the_others() -> None:
    # Ten times the window passes while the first is on its way, as far as the bound on what is undelivered allows.
    steps = iter([100] + [1] * 50)
    engine = SlowEngine(lambda: next(steps))
    results = get_many(engine, ask(51), window=4, window_bytes=10_000)
    next(results)
    assert len(engine.started) > 4


def test_an_error_ends_what_follows() -> None:
    engine = SlowEngine()
    requests = [GetRequest("b", key) for key in ("k", "bad", "k", "k", "k")]
    results = get_many(engine, requests, window=4, window_bytes=10**9)
    assert isinstance(next(results), GetResult)
    engine.started[-1].steps = 10**9
    with pytest.raises(S3Exception):
        next(results)
    assert all(transfer.done() for transfer in engine.started)
    assert engine.started[-1].is_cancelled
    with pytest.raises(StopIteration):
        next(results)


def test_an_interrupt_is_no_result() -> None:
    engine = SlowEngine()
    results = get_many(
        engine, [GetRequest("b", "worse"), GetRequest("b", "k")], window=2, window_bytes=10**9, return_errors=True
    )
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert all(transfer.done() for transfer in engine.started)


def test_closing_ends_what_is_in_flight() -> None:
    engine = SlowEngine()
    results = get_many(engine, ask(20), window=4, window_bytes=10_000)
    next(results)
    assert any(not transfer.done() for transfer in engine.started)
    results.close()  # type: ignore[attr-defined]  # a generator behind the Iterator
    assert all(transfer.done() for transfer in engine.started)


def test_a_source_that_fails_ends_what_is_in_flight() -> None:
    engine = SlowEngine()

    def source() -> Iterator[GetRequest]:
        yield from ask(3)
        raise LookupError("no more")

    results = get_many(engine, source(), window=8, window_bytes=10_000)
    assert [next(results).request.key for _ in range(3)] == ["k0", "k1", "k2"]  # type: ignore[union-attr]  # no errors
    with pytest.raises(LookupError):  # in its turn
        next(results)
    assert all(transfer.done() for transfer in engine.started)


def test_no_request_gives_no_result() -> None:
    assert run(SlowEngine(), []) == []


def test_a_consumer_that_computes_drives_the_others_between_items() -> None:
    # It comes by now and then: even when its next item is there already, the rest advances.
    engine, now = SlowEngine(lambda: 10), [0.0]
    results = get_many(engine, ask(20), window=4, window_bytes=10_000, clock=lambda: now[0])
    next(results)
    before = [transfer.steps for transfer in engine.started]
    now[0] += 0.01
    next(results)
    assert any(after < earlier for after, earlier in zip([t.steps for t in engine.started], before, strict=False))


def test_a_consumer_that_hurries_takes_what_is_there_without_a_system_call_each() -> None:
    engine = SlowEngine(lambda: 10)
    results = get_many(engine, ask(20), window=4, window_bytes=10_000, clock=lambda: 0.0)
    next(results)
    before = [transfer.steps for transfer in engine.started]
    for _ in range(3):  # came with the first
        next(results)
    assert [transfer.steps for transfer in engine.started][: len(before)] == before
    assert len(list(results)) == 16


def test_while_enough_is_there_the_next_are_begun_several_at_a_time() -> None:
    engine, now = SlowEngine(lambda: 1), [0.0]  # a near store, and a consumer that takes a while
    bursts, before = [], 0
    for _ in get_many(engine, ask(3200), window=64, window_bytes=10**9, clock=lambda: now[0]):
        if len(engine.started) > before:
            bursts.append(len(engine.started) - before)
        before = len(engine.started)
        now[0] += 0.0002
    assert sum(bursts) == 3200
    assert len(bursts) <= 3200 / 32


def test_to_a_far_store_the_next_is_begun_as_soon_as_there_is_room() -> None:
    chance = random.Random(0)
    engine = SlowEngine(lambda: chance.choice([20, 30, 40]))
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        SlowEngine.step(engine)

    engine.step = step  # type: ignore[method-assign]  # counted
    run(engine, ask(1600), window=16, window_bytes=10**9)
    assert steps < 1.1 * 1600 / 16 * 30


def test_without_a_bound_it_begins_with_sixty_four() -> None:
    engine = SlowEngine(lambda: 10)
    results = get_many(engine, ask(1000), window=None, window_bytes=10**9)
    next(results)
    assert engine.most_running == 64
    results.close()  # type: ignore[attr-defined]  # a generator behind the Iterator


def test_it_becomes_wider_where_that_makes_it_faster() -> None:
    # Each step is a millisecond, an object takes thirty of them: what a latency is.
    engine, now = SlowEngine(lambda: 30), [0.0]

    def step() -> None:
        now[0] += 0.001
        SlowEngine.step(engine)

    engine.step = step  # type: ignore[method-assign]  # time passes with it
    results = get_many(engine, ask(3000), window=None, window_bytes=10**9, clock=lambda: now[0])
    assert len(list(results)) == 3000
    assert engine.most_running == 512
    assert now[0] < 0.6 * 3000 / 64 * 0.03


def test_unknown_sizes_count_for_what_was_learned() -> None:
    engine = SlowEngine(lambda: 1)
    requests = [GetRequest("b", f"k{number}") for number in range(50)]  # answered with nothing, so they count nothing
    results = get_many(engine, requests, window=16, window_bytes=4 * 2**20)
    next(results)
    assert engine.most_running == 4
    list(results)
    assert engine.most_running == 16


def test_items_without_a_request_have_their_turn() -> None:
    engine = SlowEngine(lambda: 3)
    window = Window(
        engine,
        range(12),
        lambda number: (GetRequest("b", f"k{number}") if number % 3 else None, 10),
        width=Width(4, 4),
        most_bytes=1000,
    )
    seen = []
    while (following := window.next()) is not None:
        number, transfer = following
        assert (transfer is None) == (number % 3 == 0)
        assert transfer is None or transfer.done()
        seen.append(number)
    assert seen == list(range(12))
    assert (window.delivered, window.started, window.in_flight_peak) == (12, 8, 4)
    window.close()


def test_what_is_done_as_soon_as_it_is_started_is_handed_out_first() -> None:
    engine = SlowEngine(lambda: 0)
    results = get_many(engine, ask(20), window=8, window_bytes=10_000)
    for count in range(1, 5):
        next(results)
        assert len(engine.started) == count
    engine.steps = lambda: 3  # the next is not there, and those behind it need not wait for it
    next(results)
    assert len(engine.started) > 8
    assert len(list(results)) == 15
