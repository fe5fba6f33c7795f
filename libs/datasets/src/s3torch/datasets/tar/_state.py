"""How far an epoch has come: which shards are finished, and where reading goes on in those that are not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from s3torch.datasets._progress import Consumed
from s3torch.datasets._sharding import Shard

__all__ = ["Base", "OpenShard", "TarState", "merge"]

_KIND = "tar"


@dataclass(frozen=True, slots=True)
class OpenShard:
    """A shard of which samples are left. They are given block by block, each block in an order of its own."""

    place: int
    """Its place in the epoch's order."""
    turn: int
    """Its number among the shards that were shared out."""
    ordinal: int = 0
    """How many of its samples come before the block."""
    offset: int = 0
    """Byte at which the first sample begins that has not been given."""
    at: int = 0
    """That sample's number in the block."""
    length: int = 0
    """How many samples the block has; 0 if it has not been read."""
    given: int = 0
    """How many of the block have been given."""


@dataclass(frozen=True, slots=True)
class Base:
    """What was consumed of an epoch before its present consumers began."""

    consumed: Consumed = field(default_factory=Consumed)
    """Places of finished shards."""
    open: tuple[OpenShard, ...] = ()
    """Shards that were begun."""
    samples: int = 0
    """How many samples were given, but for those that were skipped."""

    def find_open(self, place: int, turn: int) -> OpenShard | None:
        """Return where to go on with the shard at a place, under its new number; None if it was not begun."""
        for shard in self.open:
            if shard.place == place:
                return replace(shard, turn=turn)
        return None


@dataclass(frozen=True, slots=True)
class TarState:
    """How far one consumer has come."""

    epoch: int
    """The epoch."""
    seed: int | None
    """The order's seed; None for the plain order."""
    fingerprint: str
    """Which shards the dataset has."""
    shards: int
    """How many."""
    base: Base
    """What was consumed before."""
    shard: Shard
    """Which consumer."""
    started: int = 0
    """How many shards it has begun."""
    open: tuple[OpenShard, ...] = ()
    """Those it has not finished."""
    samples: int = 0
    """How many samples it has drawn."""
    skipped: int = 0
    """How many of them were not given, since they failed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the state as numbers and strings."""
        return {
            "kind": _KIND,
            "epoch": self.epoch,
            "seed": -1 if self.seed is None else self.seed,
            "fingerprint": self.fingerprint,
            "length": self.shards,
            "position": self.base.consumed.position,
            "ahead": self.base.consumed.ahead.hex(),
            "base_open": _dump(self.base.open),
            "base_samples": self.base.samples,
            "index": self.shard.index,
            "count": self.shard.count,
            "started": self.started,
            "open": _dump(self.open),
            "samples": self.samples,
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> TarState:
        """Read what `to_dict` wrote.

        Raises:
            TypeError: It is no mapping.
            ValueError: It is not the state of a dataset of tar shards.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a dict, got {type(state).__name__}")
        if state.get("kind") != _KIND:
            raise ValueError("this is no state of an S3TarDataset: load what its own state_dict() returned")
        try:
            return cls(
                epoch=int(state["epoch"]),
                seed=None if state["seed"] == -1 else int(state["seed"]),
                fingerprint=str(state["fingerprint"]),
                shards=int(state["length"]),
                base=Base(
                    Consumed(int(state["position"]), bytes.fromhex(state["ahead"])),
                    _load(state["base_open"]),
                    int(state["base_samples"]),
                ),
                shard=Shard(int(state["index"]), int(state["count"])),
                started=int(state["started"]),
                open=_load(state["open"]),
                samples=int(state["samples"]),
                skipped=int(state["skipped"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state of an S3TarDataset is damaged: {error!r}") from error


def merge(states: Sequence[TarState]) -> TarState:
    """Make one state of those of all consumers, from which any number of consumers can go on.

    Args:
        states: One of each consumer: each worker of each rank, in any order.

    Returns:
        The state of a single consumer that has not begun.

    Raises:
        ValueError: They do not belong together, or some are missing.
    """
    first = _check_alike(states)
    count = first.shard.count
    base = first.base
    places = base.consumed.remaining(first.shards).tolist()
    finished, begun = set[int](), set[int]()
    opened: list[OpenShard] = []
    for state in states:
        still_open = {shard.turn: shard for shard in state.open}
        # Turns beyond the last begin the epoch again: nothing is consumed by them.
        for turn in range(state.shard.index, min(state.started * count, len(places)), count):
            begun.add(places[turn])
            if turn in still_open:
                opened.append(still_open[turn])
            else:
                finished.add(places[turn])
    opened += [shard for shard in base.open if shard.place not in begun]
    merged = Base(
        base.consumed.union(Consumed.of(finished)),
        tuple(sorted(opened, key=lambda shard: shard.place)),
        base.samples + sum(state.samples - state.skipped for state in states),
    )
    return replace(first, base=merged, shard=Shard(0, 1), started=0, open=(), samples=0, skipped=0)


def _check_alike(states: Sequence[TarState]) -> TarState:
    """See that there is one state of each consumer, and return the first."""
    if not states:
        raise ValueError("there are no states to merge")
    first = states[0]
    for state in states:
        for name in ("epoch", "seed", "fingerprint", "shards", "base"):
            if getattr(state, name) != getattr(first, name):
                raise ValueError(f"states of different runs: they differ in their {name}")
        if state.shard.count != first.shard.count:
            raise ValueError(f"states of different runs: of {first.shard.count} and {state.shard.count} consumers")
    found = [state.shard.index for state in states]
    missing = sorted(set(range(first.shard.count)).difference(found))
    if missing:
        raise ValueError(
            f"the states of consumers {missing} of {first.shard.count} are missing: only who reads a tar shard knows"
            " how far it was read, so collect the states of all workers of all ranks"
        )
    if len(found) != len(set(found)):
        raise ValueError("there are two states of one consumer")
    return first


def _dump(shards: Iterable[OpenShard]) -> str:
    return ";".join(",".join(map(str, astuple(shard))) for shard in shards)


def _load(text: str) -> tuple[OpenShard, ...]:
    return tuple(OpenShard(*map(int, shard.split(","))) for shard in text.split(";") if shard)
