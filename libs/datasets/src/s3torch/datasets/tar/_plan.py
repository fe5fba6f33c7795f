"""Which shards a consumer reads, in which order, from which byte on. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from s3torch.datasets._order import EpochOrder
from s3torch.datasets._sharding import Shard
from s3torch.datasets._share import Uneven, share_of
from s3torch.datasets.tar._state import Base, OpenShard

__all__ = ["TarPlan", "order_of_block"]


@dataclass(frozen=True, slots=True)
class TarPlan:
    """An epoch's shards as one consumer gets them.

    Shards that nobody has finished are numbered in the epoch's order: these numbers are the *turns*. Turn ``j`` is
    consumer ``j % count``'s. Turns beyond the last begin the epoch again.
    """

    order: EpochOrder
    """In which order the shards are visited."""
    base: Base
    """What was consumed before these consumers began."""
    shard: Shard
    """Which of them this is."""
    uneven: Uneven = "keep"
    """Which turns there are beside the shards that all consumers have."""
    is_endless: bool = False
    """Whether turns go on for as long as somebody asks."""
    _places: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find out once which places are left."""
        object.__setattr__(self, "_places", tuple(self.base.consumed.remaining(self.order.length).tolist()))

    @property
    def remaining(self) -> int:
        """How many shards nobody has finished."""
        return len(self._places)

    @property
    def turns(self) -> int | None:
        """How many shards this consumer reads; None for no end."""
        if self.is_endless:
            return None
        return share_of(self.remaining, self.shard, self.uneven)

    def turn(self, number: int) -> OpenShard:
        """Return where this consumer's ``number``-th shard is to be read from."""
        turn = number * self.shard.count + self.shard.index
        if turn >= self.remaining:
            return OpenShard((turn - self.remaining) % self.order.length, turn)
        place = self._places[turn]
        return self.base.find_open(place, turn) or OpenShard(place, turn)

    def from_turn(self, number: int) -> Iterator[OpenShard]:
        """Return this consumer's shards, from its ``number``-th on."""
        turns = self.turns
        while turns is None or number < turns:
            yield self.turn(number)
            number += 1

    def item(self, place: int) -> int:
        """Return which shard stands at a place of the epoch's order."""
        return int(self.order.items(place, place + 1)[0])


def order_of_block(length: int, seed: int | None, epoch: int, where: OpenShard) -> list[int]:
    """Return in which order the samples of a block are given.

    Args:
        length: Samples in the block.
        seed: None gives them as they lie.
        epoch: The epoch.
        where: The shard, and how many of its samples come before the block.

    Returns:
        Each number below ``length`` once. The same on every platform: of Python's generator only ``random()`` is used,
        whose sequence is guaranteed.
    """
    if seed is None:
        return list(range(length))
    draw = random.Random(f"{seed}:{epoch}:{where.place}:{where.ordinal}").random
    keys = [draw() for _ in range(length)]
    return sorted(range(length), key=keys.__getitem__)
