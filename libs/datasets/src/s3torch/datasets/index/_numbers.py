"""Columns of numbers in as few bytes as the largest of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from s3torch.datasets.index._shared import Array

__all__ = ["Narrowing", "read_narrow", "read_one", "write_narrow"]

Int64s = npt.NDArray[np.int64]


class Narrowing(NamedTuple):
    """How a column's numbers are stored: less ``base``, in ``width`` bytes, the lowest first."""

    base: int
    width: int

    @classmethod
    def of(cls, pieces: Sequence[Array]) -> Narrowing:
        """Find the narrowest for all numbers of a column; equal ones take no byte at all."""
        full = [piece for piece in pieces if len(piece)]
        if not full:
            return cls(0, 0)
        least, most = min(int(piece.min()) for piece in full), max(int(piece.max()) for piece in full)
        return cls(least, -(-(most - least).bit_length() // 8))


def write_narrow(numbers: Array, narrowing: Narrowing) -> Array:
    """Return numbers as rows of bytes."""
    less = np.ascontiguousarray(numbers.astype(np.int64) - narrowing.base, dtype="<i8")
    return less.view(np.uint8).reshape(-1, 8)[:, : narrowing.width]


def read_narrow(rows: Array, narrowing: Narrowing) -> Int64s:
    """Return the numbers that `write_narrow` has written."""
    wide = np.zeros((len(rows), 8), np.uint8)
    wide[:, : narrowing.width] = rows
    numbers: Int64s = wide.view("<i8").reshape(-1).astype(np.int64, copy=False)
    return numbers + narrowing.base if narrowing.base else numbers


def read_one(memory: memoryview, index: int, narrowing: Narrowing) -> int:
    """Return one number of a column whose bytes are ``memory``."""
    base, width = narrowing
    return base + int.from_bytes(memory[index * width : index * width + width], "little")
