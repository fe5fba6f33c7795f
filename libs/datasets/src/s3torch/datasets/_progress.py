"""What of an epoch is consumed: exactly, and in a few bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Consumed"]

_Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Consumed:
    """The places of an epoch's order that are consumed; equal sets are equal values."""

    position: int = 0
    """All places below are consumed, and this one is not."""
    ahead: bytes = b""
    """Those above that are, as bits: bit ``i % 8`` of byte ``i // 8``, the lowest first, is place ``position + i``."""

    def __post_init__(self) -> None:
        """Check that this is the one form which the set has."""
        if self.position < 0 or (self.ahead and (self.ahead[0] & 1 or not self.ahead[-1])):
            raise ValueError(f"not a set of consumed places: {self.position}, {self.ahead.hex()!r}")

    @classmethod
    def of(cls, places: Iterable[int]) -> Consumed:
        """Return the set of these places."""
        found = np.fromiter(places, np.int64)
        if not len(found):
            return cls()
        if int(found.min()) < 0:
            raise ValueError(f"there is no place {found.min()}")
        bits = np.zeros(int(found.max()) + 1, np.bool_)
        bits[found] = True
        return cls._from_bits(0, bits)

    def __contains__(self, place: int) -> bool:
        offset = place - self.position
        if offset < 0:
            return place >= 0
        return offset < len(self.ahead) * 8 and bool(self.ahead[offset // 8] >> offset % 8 & 1)

    def count(self) -> int:
        """Return how many places are consumed."""
        return self.position + int.from_bytes(self.ahead, "little").bit_count()

    def left(self, length: int) -> int:
        """Return how many of an epoch's places are not consumed.

        Args:
            length: Number of places.
        """
        return max(0, length - self.count())

    def remaining(self, length: int) -> npt.NDArray[np.int64]:
        """Return the places of an epoch that are not consumed, ascending.

        Args:
            length: Number of places.
        """
        return self.places(np.arange(self.left(length), dtype=np.int64))

    def places(self, ordinals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return some of the places that are not consumed, of which there is no end here.

        Args:
            ordinals: Which: 0 is the first place that is not consumed, 1 the second.

        Returns:
            The place of each.
        """
        if not self.ahead:
            return ordinals + self.position
        bits = self.bits()
        (free,) = np.nonzero(~bits)
        # Ends with the first place after the bits, from which on all are free.
        within = np.append(free, len(bits))
        beyond = np.maximum(ordinals - len(free), 0)
        return self.position + within[np.minimum(ordinals, len(free))] + beyond

    def union(self, other: Consumed) -> Consumed:
        """Return the places that are consumed in one of both."""
        low, high = sorted((self, other), key=lambda one: one.position)
        above = low.bits()[high.position - low.position :]  # below, the higher one has everything
        bits = high.bits()
        both = np.zeros(max(len(above), len(bits)), np.bool_)
        both[: len(above)] = above
        both[: len(bits)] |= bits
        return self._from_bits(high.position, both)

    def after(self, taken: Sequence[int] | npt.NDArray[np.int64], length: int | None = None) -> Consumed:
        """Return what is consumed once shards have taken so many of the places that were left.

        Args:
            taken: For each shard how many; shard ``k`` of ``n`` takes the ordinals ``k``, ``k + n``, ``k + 2 * n``.
            length: Number of places, if it is known: a shard may have gone on from the epoch's beginning.

        Returns:
            The set.
        """
        counts = np.asarray(taken, dtype=np.int64)
        shards = len(counts)
        if length is not None:
            shares = (self.left(length) + shards - 1 - np.arange(shards)) // shards
            counts = np.minimum(counts, shares)
        least, most = int(counts.min()), int(counts.max())
        rounds = np.zeros((most - least, shards), np.bool_)
        for shard, count in enumerate(counts):
            rounds[: count - least, shard] = True
        (ordinals,) = np.nonzero(rounds.reshape(-1))
        first = least * shards
        position = int(self.places(np.array([first]))[0])
        return Consumed(position).union(self).including(self.places(ordinals + first))

    def including(self, places: npt.NDArray[np.int64]) -> Consumed:
        """Return this set and some places at or above its position."""
        if not len(places):
            return self
        bits = np.zeros(max(int(places.max()) + 1 - self.position, len(self.ahead) * 8), np.bool_)
        bits[: len(self.ahead) * 8] = self.bits()
        bits[places - self.position] = True
        return self._from_bits(self.position, bits)

    def bits(self) -> _Bits:
        packed = np.frombuffer(self.ahead, np.uint8)
        return np.unpackbits(packed, bitorder="little").view(np.bool_)

    @classmethod
    def _from_bits(cls, position: int, bits: _Bits) -> Consumed:
        full = len(bits) if bits.all() else int(bits.argmin())
        ahead = np.packbits(bits[full:], bitorder="little").tobytes()
        return cls(position + full, ahead.rstrip(b"\0"))
