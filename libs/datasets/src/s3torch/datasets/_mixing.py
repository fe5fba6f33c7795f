"""Which dataset of a mixture each draw takes, and how far the draws have come; pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

__all__ = ["KIND", "Draws", "MixtureProgress", "check_weights", "merge"]

KIND = "mixture"
_WORD = 2**64
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# A draw of a dataset that has ended is drawn anew, so that the sequence does not depend on when that was noticed. After
# so many in a row only the others are drawn from: what is left may have next to no weight.
_MOST_REDRAWS = 64


@dataclass
class MixtureProgress:
    """How far an iteration has come."""

    epoch: int
    drawn: int
    """Draws made, those of datasets that had ended included."""
    rounds: list[int]
    """How often each dataset has begun anew."""
    finished: list[bool]
    """Which have ended at least once."""
    ended: bool = False

    @classmethod
    def fresh(cls, epoch: int, count: int) -> MixtureProgress:
        """Return the progress of an epoch that begins."""
        return cls(epoch, 0, [0] * count, [False] * count)

    def copy(self) -> MixtureProgress:
        """Return one that goes on by itself."""
        return replace(self, rounds=[*self.rounds], finished=[*self.finished])

    def to_dict(self) -> dict[str, Any]:
        """Return it as ints and strings."""
        return {
            "kind": KIND,
            "epoch": self.epoch,
            "drawn": self.drawn,
            "rounds": ",".join(map(str, self.rounds)),
            "finished": ",".join(str(int(each)) for each in self.finished),
            "ended": int(self.ended),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], count: int) -> MixtureProgress:
        """Read what `to_dict` wrote, for a mixture of so many datasets."""
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a dict, got {type(state).__name__}")
        if state.get("kind") != KIND:
            raise ValueError("this is no state of an S3MixtureDataset: load what its own state_dict() returned")
        try:
            progress = cls(
                int(state["epoch"]),
                int(state["drawn"]),
                [int(each) for each in state["rounds"].split(",")],
                [each == "1" for each in state["finished"].split(",")],
                bool(int(state["ended"])),
            )
            found = {len(progress.rounds), len(progress.finished), len(state["datasets"])}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state of an S3MixtureDataset is damaged: {error}") from error
        if found != {count}:
            raise ValueError(f"the state is that of a mixture of {max(found)} datasets, this one has {count}")
        return progress


def merge(
    states: Sequence[Mapping[str, Any]], merge_children: Callable[[list[Mapping[str, Any]]], dict[str, Any]]
) -> dict[str, Any]:
    """Make one state of those of a mixture's workers.

    Args:
        states: The states; one at least.
        merge_children: Makes one state of those of one of the datasets.

    Returns:
        The state to go on from with any number of workers.

    Raises:
        ValueError: They do not belong together, or a dataset has begun anew more often in one worker than in another.
    """
    count = len(states[0]["datasets"])
    every = [MixtureProgress.from_dict(state, count) for state in states]
    first = every[0]
    if len({progress.epoch for progress in every}) > 1:
        raise ValueError(f"states of different epochs: {sorted({progress.epoch for progress in every})}")
    if any(progress.rounds != first.rounds for progress in every):
        raise ValueError(
            "a dataset has begun anew more often in one worker than in another, so no state tells of all: go on with "
            "as many workers as before"
        )
    merged = replace(
        first,
        drawn=max(progress.drawn for progress in every),
        finished=[all(each) for each in zip(*(progress.finished for progress in every), strict=True)],
        ended=all(progress.ended for progress in every),
    )
    children = [merge_children([state["datasets"][number] for state in states]) for number in range(count)]
    return {**merged.to_dict(), "datasets": children}


class Draws:
    """The sequence of draws of one worker: a function of their number."""

    def __init__(self, weights: Sequence[float], seed: int, epoch: int, worker: int) -> None:
        self._weights = weights
        self._bounds = list(accumulate(weights))
        self._key = _mix(_mix(_mix(seed % _WORD) ^ epoch) ^ worker)

    def next(self, drawn: int, alive: Sequence[bool]) -> tuple[int, int]:
        """Return which dataset the next draw takes, and how many draws have been made then.

        Args:
            drawn: Draws made before.
            alive: Which datasets are known to have samples left; one at least.
        """
        for _ in range(_MOST_REDRAWS):
            number = self._draw(drawn, self._bounds)
            drawn += 1
            if alive[number]:
                return number, drawn
        bounds = list(
            accumulate(weight if is_alive else 0.0 for weight, is_alive in zip(self._weights, alive, strict=True))
        )
        return self._draw(drawn, bounds), drawn + 1

    def _draw(self, drawn: int, bounds: list[float]) -> int:
        share = (_mix(self._key ^ drawn) >> 11) * 2.0**-53  # from 0 to below 1, all that a float can tell apart
        return bisect_right(bounds, share * bounds[-1])


def _mix(word: int) -> int:
    """Return a word of 64 bits that looks random (SplitMix64; Steele, Lea and Flood 2014)."""
    word = (word + _GAMMA) % _WORD
    word = (word ^ word >> 30) * _FIRST % _WORD
    word = (word ^ word >> 27) * _SECOND % _WORD
    return word ^ word >> 31


def check_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Return the weights of so many datasets, with the sum 1; None makes all alike."""
    if weights is None:
        return (1.0 / count,) * count
    numbers = [float(weight) for weight in weights]
    if len(numbers) != count:
        raise ValueError(f"a mixture needs a weight for each dataset: {count} datasets, {len(numbers)} weights")
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"weights must be positive and finite, got {numbers}; leave out what is not to be drawn")
    total = math.fsum(numbers)
    return tuple(number / total for number in numbers)
