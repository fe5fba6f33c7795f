"""An index in two: its arrays, and a pickle of what is left of it without them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

from s3torch.datasets.index._shared import SharedArrays
from s3torch.datasets.index.s3index import S3Index

__all__ = ["pack", "unpack"]


def pack(index: S3Index) -> tuple[bytes, list[SharedArrays]]:
    """Take an index apart; nothing is copied that grows with it.

    Args:
        index: The index; its filters are applied now.

    Returns:
        A few hundred bytes, and the arrays that hold all the rest.

    Raises:
        ValueError: As `S3Index.where`.
    """
    shell = io.BytesIO()
    pickler = _Pickler(shell, pickle.HIGHEST_PROTOCOL)
    pickler.dump(index)
    return shell.getvalue(), pickler.found


def unpack(shell: bytes, arrays: Sequence[SharedArrays]) -> S3Index:
    """Put an index together.

    Args:
        shell: What `pack` has made.
        arrays: Arrays that hold the same as those of the other index, in the same order.

    Returns:
        The index.
    """
    index: S3Index = _Unpickler(shell, arrays).load()
    return index


class _Pickler(pickle.Pickler):
    """Leaves arrays out, and collects them."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.found: list[SharedArrays] = []

    def persistent_id(self, obj: Any) -> int | None:
        """Give the number of an array among those found; None for anything else."""
        if not isinstance(obj, SharedArrays):
            return None
        for number, known in enumerate(self.found):
            if known is obj:  # comparing them would compare their bytes
                return number
        self.found.append(obj)
        return len(self.found) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, shell: bytes, arrays: Sequence[SharedArrays]) -> None:
        super().__init__(io.BytesIO(shell))
        self._arrays = arrays

    def persistent_load(self, pid: Any) -> SharedArrays:
        """Return the array of a number."""
        arrays: SharedArrays = self._arrays[pid]
        return arrays
