"""The width of a window grows where that makes it faster, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from s3torch.client._width import FIRST_WIDTH, MOST_WIDTH, Pace, Reading, Width


class Store:
    """A store and a consumer, simulated: so many objects a second at a width, and how much of the time is waiting."""

    def __init__(self, width: Width, pace: Callable[[int], float], *, waits: float = 1.0) -> None:
        self.width = width
        self.pace = pace
        self.waits = waits
        self.now = self.waited = 0.0
        self.delivered = self.throttled = 0
        self.widths: list[int] = []
        self.was_full = True
        self.watch = Pace(width, self.reading())

    def reading(self) -> Reading:
        return Reading(
            self.now,
            self.delivered + self.width.value,
            self.delivered,
            self.delivered * 110_000,
            self.waited,
            self.throttled,
        )

    def deliver(self, count: int) -> None:
        for _ in range(count):
            seconds = 1 / self.pace(self.width.value)
            self.now += seconds
            self.waited += seconds * self.waits
            self.delivered += 1
            if self.delivered >= self.watch.look_at:
                self.watch.look(self.reading(), was_full=self.was_full)
            self.widths.append(self.width.value)


def far(limit: float, latency: float = 0.03) -> Callable[[int], float]:
    """A latency, and what the processor or the network gives at most."""
    return lambda width: min(width / latency, limit)


def test_a_window_grows_until_it_brings_no_more() -> None:
    store = Store(Width(), far(6000))
    store.deliver(2000)
    assert store.width.value == 256  # 180 would do
    assert store.widths.index(128) <= 2 * FIRST_WIDTH + 1
    assert store.widths.index(256) <= 8 * FIRST_WIDTH
    store.deliver(50_000)
    # It is tried again now and then, and not for long.
    assert max(store.widths) == MOST_WIDTH
    assert store.widths.count(MOST_WIDTH) < 0.15 * len(store.widths)
    assert store.width.value in (256, MOST_WIDTH)


def test_a_near_store_leaves_it_as_it_is() -> None:
    store = Store(Width(), far(18_000, 0.0005))
    store.deliver(10_000)
    assert store.widths.count(FIRST_WIDTH) > 0.8 * len(store.widths)


@pytest.mark.parametrize(("waits", "full"), [(0.05, 1), (1.0, 0)])
def test_it_grows_only_if_somebody_waits_for_it_and_it_is_what_holds_back(waits: float, full: int) -> None:
    store = Store(Width(), far(10**9), waits=waits)
    store.was_full = bool(full)
    store.deliver(5000)
    assert set(store.widths) == {FIRST_WIDTH}


def test_a_given_bound_holds() -> None:
    store = Store(Width.bounded(100), far(10**9))
    store.deliver(5000)
    assert set(store.widths) == {100}


def test_a_store_that_asks_for_fewer_gets_half() -> None:
    store = Store(Width(), far(10**9))
    store.deliver(2000)
    assert store.width.value == MOST_WIDTH
    store.throttled += 1
    store.deliver(20 * MOST_WIDTH)
    assert MOST_WIDTH // 2 in store.widths[2000:]
    for _ in range(40):
        store.throttled += 1
        store.deliver(5 * store.width.value)
    assert store.width.value == 8


def test_a_network_that_becomes_faster_is_noticed() -> None:
    store = Store(Width(), far(2000))
    store.deliver(10_000)
    assert store.width.value == FIRST_WIDTH
    store.pace = far(10**9)
    store.deliver(40_000)
    assert store.width.value == MOST_WIDTH


def test_windows_that_follow_each_other_share_what_was_found() -> None:
    width = Width()
    Store(width, far(10**9)).deliver(3000)
    again = Store(width, far(10**9))
    again.deliver(1)
    assert again.widths == [MOST_WIDTH]
