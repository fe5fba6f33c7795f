"""In which sequence an epoch visits the items: an exact permutation that is computed, not stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
import numpy.typing as npt

__all__ = ["EpochOrder", "check_epoch", "check_seed"]

_ROUNDS = 8
_BLOCK = 4096
"""Places computed at once: few enough that all steps stay in the processor's cache."""
_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MIXING = ((np.uint64(30), np.uint64(_FIRST)), (np.uint64(27), np.uint64(_SECOND)))
_HALF = np.uint64(32)
_WORD = 2**64

_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """Which item stands at each place of an epoch's order.

    A Feistel network over two coordinates, of which a few places more than needed exist; a place that leads outside is
    sent through again until it leads inside ("Generalized-Feistel" and cycle walking, Black and Rogaway 2002, "Ciphers
    with Arbitrary Finite Domains"). Its rounds mix with SplitMix64's finalizer (Steele, Lea and Flood 2014). Nothing is
    kept, so that 10^9 items take no more memory than ten, and any stretch is computed by itself, the same everywhere.
    Up to 4096 items, where a network would favour some permutations, are sorted by random numbers.
    """

    length: int
    """Number of items, below 2**62."""
    seed: int | None = None
    """Which sequence of permutations; None visits the items as they lie."""
    epoch: int = 0
    """Which permutation of that sequence."""

    def __post_init__(self) -> None:
        """Check the numbers: what is cut off would be another order without a word."""
        if not 0 <= self.length < 2**62:
            raise ValueError(f"an order has from 0 to 2**62 - 1 items, got {self.length}")
        check_epoch(self.epoch)
        if self.seed is not None:
            check_seed(self.seed)

    def items(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the items of a stretch of places.

        Args:
            start: First place.
            stop: Place after the last; what lies beyond the end is left out.

        Returns:
            The item at each place.
        """
        return self.at(np.arange(start, min(stop, self.length), dtype=np.int64))

    def at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the items of any places.

        Args:
            places: Places from 0 to below ``length``, in any order.

        Returns:
            The item at each.

        Raises:
            IndexError: A place does not exist.
        """
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < self.length:
            raise IndexError(f"places {places.min()} to {places.max()} of an order of {self.length} items")
        if self.seed is None or self.length < 2:
            return places.astype(np.int64)
        if self.length <= _BLOCK:
            return _sorted(self.length, self.seed, self.epoch)[places]
        network = _network(self.length, self.seed, self.epoch)
        items = places.astype(np.uint64)
        for start in range(0, len(items), _BLOCK):
            network.permute(items[start : start + _BLOCK])
        return items.view(np.int64)


def check_seed(seed: object) -> None:
    """Raise ValueError unless the seed is an int from 0 to 2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _WORD:
        raise ValueError(f"seed must be an int from 0 to 2**64 - 1, got {seed!r}")


def check_epoch(epoch: object) -> None:
    """Raise ValueError unless the epoch is an int from 0 to 2**63 - 1."""
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < _WORD // 2:
        raise ValueError(f"epoch must be an int from 0 to 2**63 - 1, got {epoch!r}")


@dataclass(frozen=True, slots=True)
class _Network:
    """The keyed permutation of one epoch."""

    length: np.uint64
    columns: np.uint64
    rows: np.uint64
    keys: tuple[tuple[np.uint64, np.uint64], ...]

    def permute(self, words: _Words) -> None:
        """Replace each place by its item."""
        self._pass(words)
        (outside,) = np.nonzero(words >= self.length)
        while len(outside):
            walking = words[outside]
            self._pass(walking)
            words[outside] = walking
            outside = outside[walking >= self.length]

    def _pass(self, words: _Words) -> None:
        row = words // self.columns
        column = words - row * self.columns
        hashed, shifted = np.empty_like(words), np.empty_like(words)
        for first, second in self.keys:
            _turn(column, row, self.columns, first, hashed, shifted)
            _turn(row, column, self.rows, second, hashed, shifted)
        np.multiply(row, self.columns, out=words)
        np.add(words, column, out=words)


def _turn(target: _Words, source: _Words, modulus: np.uint64, key: np.uint64, hashed: _Words, shifted: _Words) -> None:
    """Add to one coordinate, modulo its range, what the other one hashes to."""
    np.add(source, key, out=hashed)
    for shift, factor in _MIXING:
        np.right_shift(hashed, shift, out=shifted)
        np.bitwise_xor(hashed, shifted, out=hashed)
        np.multiply(hashed, factor, out=hashed)
    # The upper half of the hash, scaled to the range: a product of two numbers below 2**32.
    np.right_shift(hashed, _HALF, out=hashed)
    np.multiply(hashed, modulus, out=hashed)
    np.right_shift(hashed, _HALF, out=hashed)
    np.add(target, hashed, out=target)
    # Below the range, subtracting wraps round to a huge number.
    np.subtract(target, modulus, out=shifted)
    np.minimum(target, shifted, out=target)


@lru_cache(maxsize=64)
def _network(length: int, seed: int, epoch: int) -> _Network:
    columns = isqrt(length - 1) + 1
    rows = -(-length // columns)
    state = _state(length, seed, epoch)
    keys = [np.uint64(_mix((state + turn * _GAMMA) % _WORD)) for turn in range(1, _ROUNDS + 1)]
    pairs = tuple(zip(keys[::2], keys[1::2], strict=True))
    return _Network(np.uint64(length), np.uint64(columns), np.uint64(rows), pairs)


@lru_cache(maxsize=16)
def _sorted(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    state = _state(length, seed, epoch)
    numbers = np.arange(1, length + 1, dtype=np.uint64) * np.uint64(_GAMMA) + np.uint64(state)
    for shift, factor in _MIXING:
        numbers = (numbers ^ numbers >> shift) * factor
    return np.argsort(numbers ^ numbers >> np.uint64(31), kind="stable").astype(np.int64)


def _state(length: int, seed: int, epoch: int) -> int:
    state = 0
    for word in (seed, epoch, length):
        state = _mix(((state ^ word) + _GAMMA) % _WORD)
    return state


def _mix(word: int) -> int:
    """SplitMix64's finalizer."""
    word = (word ^ word >> 30) * _FIRST % _WORD
    word = (word ^ word >> 27) * _SECOND % _WORD
    return word ^ word >> 31
