"""The width of a window grows where that makes it faster, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from s3torch.client._width import FIRST_WIDTH, MOST_WIDTH, Pace, Reading, Width


class Store:
    """A store and a consumer, simulated.

    Args:
        width: Of the window.
        pace: So many objects a second at a width.
        idles: How much of the time the consumer waits, and its thread has nothing to do.
        latency: Seconds until the first object is there.
    """

    def __init__(
        self,
        width: Width,
        pace: Callable[[int], float],
        *,
        idles: float = 1.0,
        latency: float = 0.0,
    ) -> None:
        self.width = width
        self.pace = pace
        self.idles = idles
        self.now = self.idle = latency
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
            self.idle,
            self.throttled,
        )

    def deliver(self, count: int) -> None:
        for _ in range(count):
            seconds = 1 / self.pace(self.width.value)
            self.now += seconds
            self.idle += seconds * self.idles
            self.delivered += 1
            if self.delivered >= self.watch.look_at:
                self.watch.look(self.reading(), was_full=self.was_full)
            self.widths.append(self.width.value)


def reading(now: float, started: int, delivered: int) -> Reading:
    """Of a window that is waited for all the time, and whose thread idles."""
    return Reading(now, started, delivered, 0, now, 0)


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


@pytest.mark.parametrize(
    ("latency", "full", "width"), [(0.03, True, 128), (0.0005, True, FIRST_WIDTH), (0.03, False, FIRST_WIDTH)]
)
def test_a_window_of_a_far_store_begins_twice_as_wide(latency: float, full: bool, width: int) -> None:
    store = Store(Width(), far(10**9), latency=latency)
    store.was_full = full
    store.deliver(FIRST_WIDTH)
    assert set(store.widths) == {width}


def test_a_given_bound_holds_for_a_far_store() -> None:
    store = Store(Width.bounded(100), far(10**9), latency=0.03)
    store.deliver(5000)
    assert set(store.widths) == {100}


def test_a_consumer_that_hardly_waits_gets_the_narrower_one_again() -> None:
    store = Store(Width(), far(2000), latency=0.03, idles=0.05)
    store.deliver(5000)
    assert store.widths[0] == 128
    assert store.width.value == FIRST_WIDTH


def test_a_width_that_is_known_does_not_begin_anew() -> None:
    width = Width()
    Store(width, far(2000)).deliver(1000)
    again = Store(width, far(2000), latency=0.03)
    again.deliver(200)
    assert set(again.widths) == {FIRST_WIDTH}


def test_a_thread_that_has_no_time_left_gets_no_wider_window() -> None:
    store = Store(Width(), far(10**9), idles=0.1)
    store.deliver(10_000)
    assert set(store.widths) == {FIRST_WIDTH}


def test_a_thread_that_has_no_time_left_gets_a_narrower_one_later_if_that_does_as_well() -> None:
    store = Store(Width(), far(2000), idles=0.1, latency=0.03)
    store.deliver(128)
    assert store.width.value == 128
    store.deliver(1000)
    assert store.width.value == 128  # not at once
    store.deliver(2000)
    assert store.width.value == FIRST_WIDTH


@pytest.mark.parametrize(("idles", "full"), [(0.05, 1), (1.0, 0)])
def test_it_grows_only_if_somebody_waits_for_it_and_it_is_what_holds_back(idles: float, full: int) -> None:
    store = Store(Width(), far(10**9), idles=idles)
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


def test_a_store_that_gives_no_more_to_a_wide_window_than_to_a_narrow_one_gets_the_narrow_one() -> None:
    store = Store(Width(), far(10**9))
    store.deliver(3000)
    assert store.width.value == MOST_WIDTH
    store.pace = far(2000)
    store.deliver(60_000)
    assert store.width.value == FIRST_WIDTH
    # What is narrower than worth it is left at once.
    store.pace = far(6000)
    store.deliver(60_000)
    assert store.width.value == 256
    assert store.widths[-30_000:].count(128) < 3000


@pytest.mark.parametrize(("begun", "following"), [(128, 256), (80, FIRST_WIDTH)])
def test_what_had_come_before_and_is_now_given_out_makes_no_window_faster(begun: int, following: int) -> None:
    width = Width(is_new=False)
    pace = Pace(width, reading(0.0, 64, 0))
    now = 0.0
    for started, delivered in ((128, 64), (192, 128), (270, 192)):  # settles, is measured and made wider, settles
        now += 64 / 1000
        pace.look(reading(now, started, delivered), was_full=True)
    assert width.value == 128
    now += 128 / 1500  # half as fast again, to who only sees what is given out
    pace.look(reading(now, 270 + begun, 192 + 128), was_full=True)
    assert width.value == following


@pytest.mark.parametrize("seed", range(20))
def test_an_unsteady_near_store_seldom_gets_a_wide_window(seed: int) -> None:
    # A wide one is even slower: what is in flight is no longer in the caches of the processor.
    chance, width, widths = random.Random(seed), Width(), []
    noise = 1.0

    def pace(value: int) -> float:
        nonlocal noise
        if chance.random() < 1 / 100:
            noise = chance.lognormvariate(0, 0.25)
        return noise * (15_000 if value <= FIRST_WIDTH else 12_000)

    for _ in range(30):
        epoch = Store(width, pace)
        epoch.deliver(2000)
        widths += epoch.widths
    assert widths.count(FIRST_WIDTH) > 0.75 * len(widths)


def test_windows_that_follow_each_other_are_one_to_the_pauses_between_attempts() -> None:
    width, tried = Width(), 0
    for _ in range(300):
        epoch = Store(width, far(18_000, 0.0005))
        epoch.deliver(200)
        tried += max(epoch.widths) > FIRST_WIDTH
    assert 2 <= tried <= 12


def test_a_given_bound_is_kept_to_in_every_window() -> None:
    width = Width.bounded(256)
    for _ in range(10):
        store = Store(width, far(2000))
        store.deliver(5000)
        assert set(store.widths) == {256}


def test_windows_that_follow_each_other_share_what_was_found() -> None:
    width = Width()
    Store(width, far(10**9)).deliver(3000)
    again = Store(width, far(10**9))
    again.deliver(1)
    assert again.widths == [MOST_WIDTH]


def test_windows_that_share_a_width_at_the_same_time_leave_each_other_alone() -> None:
    width = Width()
    first = Store(width, far(18_000, 0.0005))
    first.deliver(130)
    assert width.tried_from == FIRST_WIDTH
    second = Store(width, far(18_000, 0.0005))  # goes back to what it was, while the first one still measures
    for _ in range(2000):
        first.deliver(7)
        second.deliver(5)
    assert FIRST_WIDTH <= width.value <= MOST_WIDTH


@pytest.mark.parametrize("value", [FIRST_WIDTH, 2 * FIRST_WIDTH])
def test_a_time_in_which_nothing_is_begun_tells_nothing(value: int) -> None:
    width = Width(value, narrows_next=value > FIRST_WIDTH, is_new=False)
    pace = Pace(width, reading(0.0, 2 * value, 0))
    for step in range(1, 200):
        # The items are all begun, or those that follow are too large for what is left of the window.
        pace.look(reading(step / 100, 2 * value, step * 64), was_full=True)
    assert width.value == value
