"""Stopping anywhere, and going on with other numbers, gives every sample once: the law, without a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.datasets._epoch_state import ALL_WORKERS, EpochState, merge
from s3torch.datasets._order import EpochOrder
from s3torch.datasets._sharding import ProcessGroup, shard_of
from s3torch.datasets._share import Uneven, share_of, share_places


@dataclass
class Worker:
    """One consumer of an epoch."""

    state: EpochState
    uneven: Uneven
    items: list[int] = field(init=False)

    def __post_init__(self) -> None:
        state = self.state
        assert state.length is not None
        shard = shard_of(ProcessGroup(state.rank, state.ranks), state.worker, state.workers)
        order = EpochOrder(state.length, state.seed, state.epoch)
        places = share_places(state.base, state.length, shard, self.uneven, state.taken[0])
        self.items = [int(item) for some in places for item in order.at(some)]

    def take(self, count: int) -> list[int]:
        samples, self.items = self.items[:count], self.items[count:]
        self.state = replace(self.state, taken=(self.state.taken[0] + len(samples),))
        return samples


@dataclass(frozen=True)
class Job:
    """So many ranks, workers and batches, until it is interrupted."""

    ranks: int
    workers: int
    batch_size: int
    batches: int
    collect: str
    """Whose states come together."""


JOBS = st.builds(
    Job,
    ranks=st.integers(1, 4),
    workers=st.integers(1, 4),
    batch_size=st.integers(1, 9),
    batches=st.integers(0, 12),
    collect=st.sampled_from(["one rank", "all ranks"]),
)


def run(state: EpochState, job: Job, uneven: Uneven, seen: Counter[int]) -> tuple[EpochState, list[Worker]]:
    """Run a job; the ranks step alike, and batches come from the workers in turn."""
    ranks = [
        [Worker(state.continued(job.ranks, job.workers, rank, worker), uneven) for worker in range(job.workers)]
        for rank in range(job.ranks)
    ]
    for batch in range(job.batches):
        for workers in ranks:
            seen.update(workers[batch % job.workers].take(job.batch_size))
    # Where shares differ, those of the first rank are the longest: at the end only it tells what all have taken.
    one_rank = ranks[:1] if uneven == "keep" else ranks[-1:]
    collected = ranks if job.collect == "all ranks" else one_rank
    states = [EpochState.from_dict(worker.state.to_dict()) for workers in collected for worker in workers]
    return merge(states), [worker for workers in ranks for worker in workers]


@settings(max_examples=1000, deadline=None)
@given(
    length=st.integers(0, 150),
    seed=st.none() | st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 5),
    jobs=st.lists(JOBS, min_size=1, max_size=4),
    last=JOBS,
    uneven=st.sampled_from(["keep", "drop", "pad"]),
)
def test_nothing_is_lost_and_nothing_comes_twice(
    length: int, seed: int | None, epoch: int, jobs: list[Job], last: Job, uneven: Uneven
) -> None:
    state = EpochState(epoch, seed, length, "0" * 16)
    seen: Counter[int] = Counter()
    for job in jobs:
        state, _ = run(state, job, uneven, seen)
    consumed = state.consumed()
    before = len(seen)
    if uneven != "pad":
        assert consumed.count() == before == seen.total()
    rest: Counter[int] = Counter()
    _, workers = run(state, replace(last, batches=0), uneven, rest)
    shares = [len(worker.items) for worker in sorted(workers, key=lambda worker: worker.state.worker)]
    for worker in workers:
        rest.update(worker.take(length))
    every = set(range(length))
    if uneven == "keep":
        assert seen + rest == Counter(every)
    elif uneven == "drop":
        assert (seen + rest).total() == len(set(seen) | set(rest)) > length - last.ranks * last.workers
    else:
        assert set(seen) | set(rest) == every
        # Only padding repeats: less than a sample for each consumer of each job.
        assert (seen + rest).total() - length < 1 + sum(job.ranks * job.workers for job in [*jobs, last])
    if uneven != "keep":
        assert len({sum(shares[rank :: last.ranks]) for rank in range(last.ranks)}) == 1


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(0, 150),
    seed=st.none() | st.integers(0, 9),
    first=JOBS,
    uneven=st.sampled_from(["keep", "drop", "pad"]),
)
def test_as_many_workers_go_on_as_if_nothing_had_happened(
    length: int, seed: int | None, first: Job, uneven: Uneven
) -> None:
    """Each by its own state, and by the one of the whole rank."""
    start = EpochState(0, seed, length)
    through = {
        (rank, worker): Worker(start.continued(first.ranks, first.workers, rank, worker), uneven).items
        for rank in range(first.ranks)
        for worker in range(first.workers)
    }
    merged, workers = run(start, replace(first, collect="one rank"), uneven, Counter())
    for worker in workers:
        state = worker.state
        taken = state.taken[0]
        rest = through[state.rank, state.worker][taken:]
        assert worker.items == rest
        assert Worker(state.continued(first.ranks, first.workers, state.rank, state.worker), uneven).items == rest
        own_rank = merge(other.state for other in workers if other.state.rank == state.rank)
        assert Worker(own_rank.continued(first.ranks, first.workers, state.rank, state.worker), uneven).items == rest
    if uneven != "keep":
        share = share_of(length, shard_of(ProcessGroup(0, first.ranks), 0, first.workers), uneven)
        assert {len(items) for items in through.values()} <= {share}
        last = first.ranks - 1
        state = merged.continued(first.ranks, first.workers, last, 0)
        assert Worker(state, uneven).items == through[last, 0][merged.taken[0] :]


def test_a_state_is_small_and_flat() -> None:
    state = EpochState(3, 7, 10**8, "0123456789abcdef").continued(8, 4, 5, 2)
    stored = replace(state, taken=(40_000,)).to_dict()
    assert EpochState.from_dict(stored) == replace(state, taken=(40_000,))
    assert all(type(value) in (int, str) for value in stored.values())
    assert sum(len(str(value)) for value in stored.values()) < 60
    assert stored.keys() == EpochState().to_dict().keys()


def states(ranks: int, workers: int, taken: dict[tuple[int, int], int]) -> list[EpochState]:
    start = EpochState(0, 1, 100, "a")
    return [
        replace(start.continued(ranks, workers, rank, worker), taken=(count,))
        for (rank, worker), count in taken.items()
    ]


def test_a_whole_ranks_state_is_that_of_its_workers() -> None:
    merged = merge(states(2, 2, {(1, 0): 5, (1, 1): 3}))
    assert (merged.worker, merged.taken, merged.ranks) == (ALL_WORKERS, (5, 3), 2)
    assert merge([merged]) == merged
    assert merge([merged, *states(2, 2, {(1, 0): 5})]) == merged
    assert merged.consumed().count() == 16


def test_ranks_that_do_not_step_alike_are_merged_exactly() -> None:
    merged = merge(states(2, 2, {(0, 0): 5, (0, 1): 3, (1, 0): 4, (1, 1): 3}))
    assert (merged.ranks, merged.workers, merged.taken) == (1, 1, (0,))
    assert merged.consumed().count() == 15


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ({}, "no state to merge"),
        ({(0, 0): 5}, r"workers \[1\] of rank 0, of 2, are missing"),
        ({(0, 0): 5, (0, 1): 5, (1, 1): 2}, r"workers \[0\] of rank 1"),
        ({(0, 0): 5, (0, 1): 5, (2, 0): 5, (2, 1): 4}, "2 of 3 ranks have not taken the same"),
    ],
)
def test_states_that_do_not_tell_enough_are_errors(taken: dict[tuple[int, int], int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merge(states(3, 2, taken))


def test_states_of_different_runs_are_an_error() -> None:
    one, other = states(1, 2, {(0, 0): 5, (0, 1): 5})
    with pytest.raises(ValueError, match="epoch is 0 and 1"):
        merge([one, replace(other, epoch=1)])
    with pytest.raises(ValueError, match="worker 0 of rank 0 contradict each other: 5 samples and 6"):
        merge([one, replace(one, taken=(6,))])


def test_one_worker_alone_goes_on_only_as_itself() -> None:
    (state,) = states(1, 2, {(0, 1): 5})
    assert state.continued(1, 2, 0, 1) == state
    for ranks, workers, worker in ((1, 2, 0), (1, 1, 0), (2, 1, 0)):
        with pytest.raises(ValueError, match="worker 1 of 2 alone"):
            state.continued(ranks, workers, 0, worker)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", -1),
        ("seed", -2),
        ("length", -2),
        ("position", "many"),
        ("ahead", "01"),
        ("ahead", "xy"),
        ("rank", 1),
        ("worker", 1),
        ("worker", -2),
        ("taken", ""),
        ("taken", "1,2"),
        ("taken", "-1"),
        ("taken", None),
    ],
)
def test_a_damaged_state_is_an_error(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="damaged"):
        EpochState.from_dict({**EpochState().to_dict(), name: value})


def test_what_is_no_state_is_an_error() -> None:
    with pytest.raises(TypeError, match="a state is a dict"):
        EpochState.from_dict([1])  # type: ignore[arg-type]
    for other in ({}, {"kind": "tar"}):
        with pytest.raises(ValueError, match="no state of an S3IterableDataset"):
            EpochState.from_dict(other)
    for missing in EpochState().to_dict():
        with pytest.raises(ValueError):
            EpochState.from_dict({k: v for k, v in EpochState().to_dict().items() if k != missing})
