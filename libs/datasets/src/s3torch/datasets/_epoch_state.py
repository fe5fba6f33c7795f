"""How far the consumers of an epoch have come, as a value; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from s3torch.datasets._order import check_epoch, check_seed
from s3torch.datasets._progress import Consumed

__all__ = ["ALL_WORKERS", "KIND", "EpochState", "check_same", "merge"]

KIND = "objects"
ALL_WORKERS = -1
_UNKNOWN = -1
_SAME = ("fingerprint", "length", "seed", "epoch", "ranks", "workers", "base")


@dataclass(frozen=True, slots=True)
class EpochState:
    """What of an epoch was consumed before, and what its present consumers have taken of the rest.

    The ``j``-th place that was left goes to rank ``j % ranks``, worker ``j // ranks % workers``. Ranks step alike, so
    that the counts of one rank's workers tell those of all ranks.
    """

    epoch: int = 0
    """Which epoch."""
    seed: int | None = None
    """Seed of the order; None for the plain order."""
    length: int | None = None
    """Number of samples; None if nobody has counted them."""
    fingerprint: str = ""
    """Of the dataset's index; empty if it has none."""
    base: Consumed = field(default_factory=Consumed)
    """What was consumed when the present consumers began."""
    ranks: int = 1
    """Processes that train together."""
    workers: int = 1
    """``DataLoader`` workers of each; 1 if it has none."""
    rank: int = 0
    """Whose state it is."""
    worker: int = ALL_WORKERS
    """The same; `ALL_WORKERS` if it is the whole rank's."""
    taken: tuple[int, ...] = (0,)
    """How many samples this worker has taken, or each of the rank's workers."""

    def __post_init__(self) -> None:
        """Check what a state that was stored may have become."""
        check_epoch(self.epoch)
        if self.seed is not None:
            check_seed(self.seed)
        whole = self.worker == ALL_WORKERS
        if not (
            (self.length is None or self.length >= 0)
            and 0 <= self.rank < self.ranks
            and (whole or 0 <= self.worker < self.workers)
            and len(self.taken) == (self.workers if whole else 1)
            and min(self.taken) >= 0
        ):
            raise ValueError("numbers that contradict each other")

    def to_dict(self) -> dict[str, Any]:
        """Return the state as ints and strings, of the same form on every rank and worker."""
        return {
            "kind": KIND,
            "epoch": self.epoch,
            "seed": _UNKNOWN if self.seed is None else self.seed,
            "length": _UNKNOWN if self.length is None else self.length,
            "fingerprint": self.fingerprint,
            "position": self.base.position,
            "ahead": self.base.ahead.hex(),
            "ranks": self.ranks,
            "workers": self.workers,
            "rank": self.rank,
            "worker": self.worker,
            "taken": ",".join(map(str, self.taken)),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> EpochState:
        """Read what `to_dict` wrote.

        Raises:
            TypeError: It is no mapping.
            ValueError: It is not the state of a dataset of objects, or is damaged.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a dict, got {type(state).__name__}")
        if state.get("kind") != KIND:
            raise ValueError("this is no state of an S3IterableDataset: load what its own state_dict() returned")
        try:
            return cls(
                epoch=int(state["epoch"]),
                seed=None if state["seed"] == _UNKNOWN else int(state["seed"]),
                length=None if state["length"] == _UNKNOWN else int(state["length"]),
                fingerprint=str(state["fingerprint"]),
                base=Consumed(int(state["position"]), bytes.fromhex(state["ahead"])),
                ranks=int(state["ranks"]),
                workers=int(state["workers"]),
                rank=int(state["rank"]),
                worker=int(state["worker"]),
                taken=tuple(int(count) for count in state["taken"].split(",")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state of an S3IterableDataset is damaged: {error}") from error

    def consumed(self) -> Consumed:
        """Return all that is consumed, taking it that all ranks step alike.

        Raises:
            ValueError: It is the state of one worker of several.
        """
        if not any(self.taken) and self.worker == ALL_WORKERS:
            return self.base
        if len(self.taken) < self.workers:
            raise ValueError(
                f"the state of worker {self.worker} of {self.workers} alone does not tell what the others have taken: "
                "merge the states of all workers with s3torch.datasets.merge_states, or go on with as many ranks and "
                "workers as before"
            )
        return self.base.after(np.repeat(self.taken, self.ranks), self.length)

    def continued(self, ranks: int, workers: int, rank: int, worker: int) -> EpochState:
        """Return the state with which one consumer goes on.

        The same number of ranks and workers go on each with their own samples, so that batches are those of a run that
        was not interrupted. Other numbers share out anew what is left.

        Args:
            ranks: Number of ranks.
            workers: Workers of each.
            rank: Which rank.
            worker: Which of its workers.

        Returns:
            The state of that worker.

        Raises:
            ValueError: It is the state of another worker alone.
        """
        if (ranks, workers) == (self.ranks, self.workers) and self.worker in (ALL_WORKERS, worker):
            base, taken = self.base, self.taken[worker if self.worker == ALL_WORKERS else 0]
        else:
            base, taken = self.consumed(), 0
        return replace(self, base=base, ranks=ranks, workers=workers, rank=rank, worker=worker, taken=(taken,))


def check_same(state: EpochState, dataset: EpochState) -> None:
    """Check that a state belongs to a dataset.

    Args:
        state: The state.
        dataset: That of the dataset, with nothing consumed.

    Raises:
        ValueError: They differ in what they hold, or in its order; the message says how.
    """
    if (state.length, state.fingerprint) != (dataset.length, dataset.fingerprint):
        was, now = _describe(state), _describe(dataset)
        if state.length is None or dataset.length is None:
            raise ValueError(
                f"the state is of a dataset {was}, and this one is {now}: make it as it was made then (index=True)"
            )
        raise ValueError(
            f"the dataset has changed since the state was saved: it was {was}, and is {now}. Go on with the objects of "
            "then (save_manifest, from_manifest), or begin the epoch anew without the state"
        )
    if state.seed != dataset.seed:
        was, now = (
            "not shuffled" if seed is None else f"shuffled with seed={seed}" for seed in (state.seed, dataset.seed)
        )
        raise ValueError(
            f"the state is of a dataset that was {was}, and this one is {now}: make it as it was made then"
        )


def _describe(state: EpochState) -> str:
    if state.length is None:
        return "without an index"
    return f"one of {state.length} objects with the fingerprint {state.fingerprint}"


def merge(states: Iterable[EpochState]) -> EpochState:
    """Make one state of those of several consumers.

    Args:
        states: Those of all workers of one rank, or of all ranks.

    Returns:
        The state of one rank as a whole.

    Raises:
        ValueError: There are none, they do not belong together, contradict each other, or some are missing.
    """
    every = list(states)
    if not every:
        raise ValueError("there is no state to merge")
    first = every[0]
    for state in every:
        for name in _SAME:
            if getattr(state, name) != getattr(first, name):
                raise ValueError(
                    f"states of different runs: their {name} is {getattr(first, name)!r} and {getattr(state, name)!r}"
                )
    ranks = {rank: _counts(rank, [state for state in every if state.rank == rank]) for rank in {s.rank for s in every}}
    alike = set(ranks.values())
    if len(alike) == 1:
        return replace(first, worker=ALL_WORKERS, taken=alike.pop())
    if len(ranks) < first.ranks:
        raise ValueError(
            f"{len(ranks)} of {first.ranks} ranks have not taken the same number of samples: give the states of one "
            "rank for all if they step alike, or those of every rank"
        )
    taken = np.array([ranks[rank] for rank in range(first.ranks)]).T.reshape(-1)
    base = first.base.after(taken, first.length)
    return replace(first, base=base, ranks=1, workers=1, rank=0, worker=ALL_WORKERS, taken=(0,))


def _counts(rank: int, states: list[EpochState]) -> tuple[int, ...]:
    """Return how many samples each worker of a rank has taken."""
    workers = states[0].workers
    found: dict[int, int] = {}
    for state in states:
        numbers = range(workers) if state.worker == ALL_WORKERS else [state.worker]
        for worker, count in zip(numbers, state.taken, strict=True):
            if found.setdefault(worker, count) != count:
                raise ValueError(
                    f"two states of worker {worker} of rank {rank} contradict each other: {found[worker]} samples and "
                    f"{count}"
                )
    missing = [worker for worker in range(workers) if worker not in found]
    if missing:
        raise ValueError(f"the states of workers {missing} of rank {rank}, of {workers}, are missing")
    return tuple(found[worker] for worker in range(workers))
