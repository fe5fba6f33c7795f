from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.datasets._sharding import ProcessGroup, Shard, current_process_group, current_shard, shard_of


@given(items=st.integers(0, 200), world_size=st.integers(1, 9), workers=st.integers(1, 9))
def test_shards_are_an_exact_partition(items: int, world_size: int, workers: int) -> None:
    shards = [
        list(shard_of(ProcessGroup(rank, world_size), worker, workers).take(range(items)))
        for rank in range(world_size)
        for worker in range(workers)
    ]
    assert sorted(chain.from_iterable(shards)) == list(range(items))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shard == sorted(shard) for shard in shards)


def test_items_go_to_ranks_in_turn_then_to_their_workers_in_turn() -> None:
    for item in range(60):
        group = ProcessGroup(item % 3, 3)
        assert item in shard_of(group, item // 3 % 4, 4).take(range(60))


def test_a_shard_draws_no_more_than_it_must() -> None:
    source = iter(range(100))
    assert next(Shard(2, 5).take(source)) == 2
    assert next(source) == 3


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_an_error(index: int, count: int) -> None:
    with pytest.raises(ValueError):
        Shard(index, count)


def test_outside_of_workers_and_process_groups_there_is_one_shard() -> None:
    assert current_process_group() is None
    assert current_shard() == Shard(0, 1)
    assert current_shard(parents=ProcessGroup(1, 2)) == Shard(0, 1)
