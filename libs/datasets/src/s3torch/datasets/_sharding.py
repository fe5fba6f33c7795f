"""Who reads what: an exact partition of a sequence over ranks and the workers of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import torch.distributed
import torch.utils.data

__all__ = ["ProcessGroup", "Shard", "current_process_group", "current_shard", "shard_of"]

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
