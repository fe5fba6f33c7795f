from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.datasets._progress import Consumed
from s3torch.datasets._sharding import Shard
from s3torch.datasets._share import Uneven, check_uneven, share_of, share_places, taken_after

PLACES = st.sets(st.integers(0, 120))
POLICIES: tuple[Uneven, ...] = ("keep", "drop", "pad")


def members(consumed: Consumed, length: int = 200) -> set[int]:
    return {place for place in range(length) if place in consumed}


def visited(consumed: Consumed, length: int, shard: Shard, uneven: Uneven = "keep", taken: int = 0) -> list[int]:
    return [int(place) for places in share_places(consumed, length, shard, uneven, taken) for place in places]


@given(places=PLACES)
def test_a_set_of_places_has_one_form(places: set[int]) -> None:
    consumed = Consumed.of(places)
    assert members(consumed) == places
    assert consumed == Consumed.of(sorted(places, reverse=True))
    assert consumed.position not in places
    assert set(range(consumed.position)) <= places
    assert consumed.count() == len(places)
    assert -1 not in consumed


@given(one=PLACES, other=PLACES)
def test_a_union_has_what_either_has(one: set[int], other: set[int]) -> None:
    union = Consumed.of(one).union(Consumed.of(other))
    assert union == Consumed.of(one | other) == Consumed.of(other).union(Consumed.of(one))


@given(places=PLACES, length=st.integers(0, 150))
def test_what_remains_is_the_rest_in_order(places: set[int], length: int) -> None:
    places = {place for place in places if place < length}
    consumed = Consumed.of(places)
    rest = [place for place in range(length) if place not in places]
    assert consumed.remaining(length).tolist() == rest
    assert consumed.left(length) == len(rest)


@given(places=PLACES, length=st.integers(130, 200), data=st.data(), shards=st.integers(1, 9))
def test_what_shards_have_taken_is_consumed(places: set[int], length: int, data: st.DataObject, shards: int) -> None:
    consumed = Consumed.of(places)
    taken = data.draw(st.lists(st.integers(0, 30), min_size=shards, max_size=shards))
    expected = set(places)
    for index, count in enumerate(taken):
        expected.update(visited(consumed, length, Shard(index, shards))[:count])
    assert consumed.after(taken, length) == Consumed.of(expected)


def test_the_state_of_a_long_epoch_is_small() -> None:
    """64 ranks with 8 workers each, which have given batches of 32 in turn: most places lie below the position."""
    taken = np.repeat([1_000_032] * 3 + [1_000_000] * 5, 64)
    after = Consumed().after(taken, 2**40)
    assert after.count() == int(taken.sum())
    assert len(after.ahead) <= 64 * 8 * 32 / 8
    again = after.after([5, 4, 4], 2**40)
    assert again.count() == after.count() + 13


@pytest.mark.parametrize(("position", "ahead"), [(-1, b""), (0, b"\x01"), (0, b"\x02\x00"), (3, b"\x00")])
def test_a_set_in_another_form_is_an_error(position: int, ahead: bytes) -> None:
    with pytest.raises(ValueError):
        Consumed(position, ahead)


def test_no_place_is_below_zero() -> None:
    with pytest.raises(ValueError):
        Consumed.of([3, -1])


def test_a_set_pickles() -> None:
    consumed = Consumed.of([0, 1, 5])
    assert pickle.loads(pickle.dumps(consumed)) == consumed == Consumed(2, b"\x08")


@given(places=PLACES, length=st.integers(121, 150), shards=st.integers(1, 200), uneven=st.sampled_from(POLICIES))
def test_shards_share_out_what_is_left(places: set[int], length: int, shards: int, uneven: Uneven) -> None:
    consumed = Consumed.of(places)
    rest = consumed.remaining(length).tolist()
    shares = [visited(consumed, length, Shard(index, shards), uneven) for index in range(shards)]
    given_out = list(chain.from_iterable(shares))
    assert [len(share) for share in shares] == [
        share_of(len(rest), Shard(index, shards), uneven) for index in range(shards)
    ]
    if uneven == "keep":
        assert sorted(given_out) == rest
    else:
        assert len({len(share) for share in shares}) == 1
    if uneven == "drop":
        assert sorted(given_out) == rest[: len(given_out)]
        assert len(rest) - len(given_out) < shards
    if uneven == "pad":
        assert 0 <= len(given_out) - len(rest) < shards
        in_turn = [place for turn in zip(*shares, strict=True) for place in turn]
        assert in_turn[: len(rest)] == rest
        more = in_turn[len(rest) :]
        assert more == [place % length for place in range(len(more))]
    for index in (0, shards - 1):
        assert visited(consumed, length, Shard(index, shards), uneven, 3) == shares[index][3:]


def test_long_shares_come_in_blocks() -> None:
    blocks = list(share_places(Consumed(), 100_000, Shard(1, 3), "keep"))
    assert len(blocks[0]) == 64
    assert max(map(len, blocks)) == 4096
    assert np.concatenate(blocks).tolist() == list(range(1, 100_000, 3))


def loader(shares: list[int], batch_size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """Give each batch of a `DataLoader` as its worker and its samples."""
    left = dict(enumerate(shares))
    while left:
        for worker in list(left):
            samples = min(batch_size, left[worker])
            if not samples or (drop_last and samples < batch_size):
                del left[worker]
                continue
            left[worker] -= samples
            yield worker, samples


@given(
    shares=st.lists(st.integers(0, 20), min_size=1, max_size=5), batch_size=st.integers(1, 7), drop_last=st.booleans()
)
def test_batches_come_from_the_workers_in_turn(shares: list[int], batch_size: int, drop_last: bool) -> None:
    given_so_far = [0] * len(shares)
    assert taken_after(0, batch_size, shares, drop_last=drop_last) == tuple(given_so_far)
    number = 0
    for number, (worker, samples) in enumerate(loader(shares, batch_size, drop_last), 1):
        given_so_far[worker] += samples
        assert taken_after(number, batch_size, shares, drop_last=drop_last) == tuple(given_so_far)
    with pytest.raises(ValueError, match=f"gives {number} batches"):
        taken_after(number + 1, batch_size, shares, drop_last=drop_last)


def test_an_unknown_policy_is_an_error() -> None:
    with pytest.raises(ValueError, match="'keep', 'drop' or 'pad', got 'even'"):
        check_uneven("even")
