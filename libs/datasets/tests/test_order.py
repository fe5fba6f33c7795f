from __future__ import annotations

import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest

from s3torch.datasets._order import EpochOrder


def every(length: int, seed: int | None = 0, epoch: int = 0) -> list[int]:
    return list(map(int, EpochOrder(length, seed, epoch).items(0, length)))


def test_every_length_is_a_permutation() -> None:
    for length in range(2001):
        assert sorted(every(length, seed=length % 7, epoch=length % 3)) == list(range(length)), length


@pytest.mark.parametrize("length", [4096, 4097, 4099, 10_000, 2**16 - 1, 2**16, 2**16 + 1, 999_983, 2**20 + 1])
def test_long_orders_are_permutations(length: int) -> None:
    items = EpochOrder(length, 5, 1).items(0, length)
    assert items.dtype == np.int64
    assert np.array_equal(np.sort(items), np.arange(length))


@pytest.mark.parametrize("length", [2**32 + 5, 2**40, 2**62 - 1])
def test_lengths_that_nobody_could_store(length: int) -> None:
    order = EpochOrder(length, 1)
    blocks = [order.items(start, start + 5000) for start in (0, length // 2, length - 5000)]
    items = np.concatenate(blocks)
    assert len(np.unique(items)) == len(items) == 15_000
    assert items.min() >= 0
    assert items.max() < length
    assert abs(items.astype(float).mean() / length - 0.5) < 0.02


def test_a_stretch_is_the_same_however_it_is_asked_for() -> None:
    for length in (3000, 30_000):
        order = EpochOrder(length, 9, 2)
        whole = order.items(0, length)
        pieces = [order.items(start, start + 701) for start in range(0, length, 701)]
        assert np.array_equal(np.concatenate(pieces), whole)
        places = np.array([length - 1, 0, 17, 17, 2500])
        assert np.array_equal(order.at(places), whole[places])
        assert len(order.items(length - 1, length + 50)) == 1
        assert len(order.items(length, length + 50)) == 0


def test_the_plain_order_is_the_items_as_they_lie() -> None:
    assert every(100, seed=None, epoch=3) == list(range(100))


def test_the_order_of_a_seed_never_changes() -> None:
    """These lists were written down once: a training that resumes relies on them."""
    assert every(10) == [5, 1, 6, 8, 4, 2, 9, 0, 7, 3]
    assert every(10, seed=2**64 - 1, epoch=2**63 - 1) == [3, 7, 0, 9, 4, 8, 1, 5, 2, 6]
    assert EpochOrder(1_000_000, 42, 7).items(500, 508).tolist() == [
        435081,
        6498,
        314554,
        765491,
        118682,
        120692,
        371002,
        16418,
    ]
    assert EpochOrder(2**40, 0, 0).items(2**39, 2**39 + 4).tolist() == [
        240403135076,
        80590102370,
        422693456645,
        491519988892,
    ]


def test_seed_epoch_and_length_each_give_another_order() -> None:
    orders = {(s, e): tuple(every(5000, s, e)) for s in range(4) for e in range(4)}
    assert len(set(orders.values())) == 16
    for one, other in itertools.combinations(orders.values(), 2):
        same = sum(a == b for a, b in zip(one, other, strict=True))
        assert same < 12  # one is expected
    assert every(5000)[:20] != [item for item in every(5001) if item < 5000][:20]


def chi_square(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    """Return by how many standard deviations counts that should be equal differ."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_every_permutation_of_a_few_is_as_likely(length: int) -> None:
    found = Counter(tuple(every(length, seed)) for seed in range(6000))
    counts = np.array([found[order] for order in itertools.permutations(range(length))])
    assert counts.sum() == 6000
    assert abs(chi_square(counts)) < 5


@pytest.mark.parametrize("length", [40, 4200])
def test_every_item_is_as_likely_at_every_place(length: int) -> None:
    bins = 20
    orders = np.array([every(length, 3, epoch) for epoch in range(200)]) * bins // length
    places = np.broadcast_to(np.arange(length) * bins // length, orders.shape)
    table = np.zeros((bins, bins), np.int64)
    np.add.at(table, (places, orders), 1)
    assert abs(chi_square(table)) < 5


@pytest.mark.parametrize("length", [4100, 10_000, 1_000_000])
def test_neighbours_are_independent(length: int) -> None:
    bins = 16
    items = EpochOrder(length, 11, 4).items(0, min(length, 200_000)) * bins // length
    for distance in (1, 2, 64, math.isqrt(length - 1) + 1):
        table = np.zeros((bins, bins), np.int64)
        np.add.at(table, (items[:-distance], items[distance:]), 1)
        assert abs(chi_square(table)) < 5, distance


def test_cycles_are_those_of_a_random_permutation() -> None:
    """The number of cycles of a random permutation has the harmonic number as its mean, and less as its variance."""
    length, tries = 5000, 100
    harmonic = sum(1 / n for n in range(1, length + 1))
    counts = []
    for epoch in range(tries):
        order, seen, cycles = every(length, 1, epoch), bytearray(length), 0
        for start in range(length):
            cycles += not seen[start]
            while not seen[start]:
                seen[start] = 1
                start = order[start]  # noqa: PLW2901  # walks the cycle
        counts.append(cycles)
    assert abs(sum(counts) / tries - harmonic) < 5 * math.sqrt(harmonic / tries)


def test_a_place_costs_a_tenth_of_a_microsecond() -> None:
    order = EpochOrder(100_000_000, 3)
    places = [np.arange(start, start + 4096) for start in range(0, 4096 * 100, 4096)]
    seconds, usual = [], []
    for block in places:
        began = time.perf_counter()
        order.at(block)
        between = time.perf_counter()
        np.remainder(block, 1009)  # how fast the machine is: 2 ns each where the order takes 32
        seconds.append(between - began)
        usual.append(time.perf_counter() - between)
    assert min(seconds) < 90 * min(usual)


@pytest.mark.parametrize(
    ("length", "seed", "epoch"), [(-1, 0, 0), (2**62, 0, 0), (5, -1, 0), (5, 2**64, 0), (5, 0, -1), (5, 0, 2**63)]
)
def test_numbers_out_of_range_are_errors(length: int, seed: int, epoch: int) -> None:
    with pytest.raises(ValueError):
        EpochOrder(length, seed, epoch)


@pytest.mark.parametrize("seed", [1.0, "1", True])
def test_a_seed_that_is_no_number_is_an_error(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be an int"):
        EpochOrder(5, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [-1, 10])
def test_a_place_that_does_not_exist_is_an_error(place: int) -> None:
    with pytest.raises(IndexError):
        EpochOrder(10, 1).at(np.array([3, place]))
