"""Who reads what: an exact partition of a sequence over ranks and the workers of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import torch.distributed
import torch.utils.data

__all__ = [
    "Consumer",
    "ProcessGroup",
    "Shard",
    "check_group",
    "current_consumer",
    "current_process_group",
    "current_shard",
    "environment_group",
    "shard_of",
]

T = TypeVar("T")


class ProcessGroup(NamedTuple):
    """This process's place among those that train together."""

    rank: int
    world_size: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Every ``count``-th item, from ``index`` on."""

    index: int
    """From 0 to below ``count``."""
    count: int
    """How many shards make up the whole."""

    def __post_init__(self) -> None:
        """Check the bounds: a shard beyond them would silently lose items."""
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard {self.index} of {self.count} does not exist")

    def take(self, items: Iterable[T]) -> Iterator[T]:
        """Return this shard's items, in order."""
        return islice(items, self.index, None, self.count)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who iterates a dataset: a rank, or one of its ``DataLoader`` workers."""

    group: ProcessGroup
    """The rank and the number of ranks that share the items out."""
    worker: int
    """Which worker."""
    workers: int
    """How many the rank has; 0 if it iterates itself."""
    sharded: bool
    """Whether the items are shared out; otherwise each consumer gets all of them."""

    @property
    def shares(self) -> int:
        """Into how many shares a rank's items are divided."""
        return max(1, self.workers) if self.sharded else 1

    @property
    def share(self) -> int:
        """Which of them is the consumer's."""
        return self.worker if self.sharded else 0


def shard_of(group: ProcessGroup, worker: int, workers: int) -> Shard:
    """Place one worker of one rank.

    Items go to the ranks in turn, and what a rank gets goes to its workers in turn: item ``i`` to rank
    ``i % world_size``, worker ``i // world_size % workers``.

    Args:
        group: Rank and number of ranks.
        worker: The worker's number within its rank, from 0.
        workers: Workers of each rank.

    Returns:
        The shard; those of all workers of all ranks hold each item exactly once.
    """
    return Shard(group.rank + group.world_size * worker, group.world_size * workers)


def current_process_group() -> ProcessGroup | None:
    """Return this process's place in torch's default process group; None while there is none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return None


def current_shard(parents: ProcessGroup | None = None) -> Shard:
    """Return the shard of whoever calls: a rank, or a ``DataLoader`` worker of one.

    Args:
        parents: The process group of the process that started this worker. Workers that are not forks of it know
            nothing of its group otherwise. Ignored outside workers.

    Returns:
        The shard, as things stand now.
    """
    worker = torch.utils.data.get_worker_info()
    if worker is None:
        return shard_of(current_process_group() or ProcessGroup(0, 1), 0, 1)
    return shard_of(current_process_group() or parents or ProcessGroup(0, 1), worker.id, worker.num_workers)


def current_consumer(
    *, sharded: bool, explicit: ProcessGroup | None, parents: ProcessGroup | None, environment: bool
) -> Consumer:
    """Return who calls.

    Args:
        sharded: Whether items are shared out.
        explicit: The rank that the user gave, if any.
        parents: As in `current_shard`.
        environment: Whether ``RANK`` and ``WORLD_SIZE`` count where there is no process group.

    Returns:
        The consumer, as things stand now.
    """
    worker = torch.utils.data.get_worker_info()
    number, workers = (0, 0) if worker is None else (worker.id, worker.num_workers)
    group = ProcessGroup(0, 1)
    if sharded:
        inherited = None if worker is None else parents
        outside = environment_group() if environment else None
        group = explicit or current_process_group() or inherited or outside or group
    return Consumer(group, number, workers, sharded)


def environment_group() -> ProcessGroup | None:
    """Return the place that ``RANK`` and ``WORLD_SIZE`` name; None unless both are set.

    Raises:
        ValueError: They name none.
    """
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if not rank or not world_size:
        return None
    try:
        return check_group((int(rank), int(world_size)))
    except (TypeError, ValueError):
        raise ValueError(
            f"RANK={rank} and WORLD_SIZE={world_size} name no process: give shard=(rank, world_size)"
        ) from None


def check_group(group: tuple[int, int]) -> ProcessGroup:
    """Return a rank and a number of ranks.

    Raises:
        TypeError: It is no pair of ints.
        ValueError: There is no such rank.
    """
    try:
        rank, world_size = group
    except (TypeError, ValueError):
        raise TypeError(f"shard must be a pair (rank, world_size), got {group!r}") from None
    for number in (rank, world_size):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"shard must be a pair of ints, got {group!r}")
    if not 0 <= rank < world_size:
        raise ValueError(f"shard must be (rank, world_size) with 0 <= rank < world_size, got {group!r}")
    return ProcessGroup(rank, world_size)
