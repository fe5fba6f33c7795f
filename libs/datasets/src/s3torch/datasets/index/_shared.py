"""Arrays in one piece of memory that all processes of a program see."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from s3torch.datasets._shared_memory import allocate_shared, take_pages

__all__ = ["Array", "Layout", "Pieces", "SharedArrays"]

Array: TypeAlias = npt.NDArray[Any]

_log = logging.getLogger(__name__)

_ALIGNMENT = 64
# Less than this travels by value: every shared piece holds a descriptor in each process.
_LEAST_SHARED = 64 * 1024
_SHM = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory
_SPARE = 32 * 1024 * 1024


class Pieces(NamedTuple):
    """An array in pieces that follow one another, each of which may be made when its turn comes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Iterable[Array]

    @classmethod
    def of(cls, array: Array) -> Pieces:
        """Take an array as a whole."""
        return cls(array.shape, array.dtype, (array,))

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Layout(NamedTuple):
    """Where arrays lie in their memory."""

    size: int
    """Bytes of all."""
    places: dict[str, tuple[int, tuple[int, ...], str]]
    """The offset of each, its shape, and its type as NumPy spells it."""


class SharedArrays(Mapping[str, Array]):
    """Named arrays, read-only, in one piece of memory.

    A large one lies in torch's shared memory: forked processes see the same pages, a ``DataLoader``'s or
    ``multiprocessing``'s pickle hands over a descriptor, and a plain pickle carries the bytes.

    Args:
        arrays: The arrays, each of which is copied piece by piece.
    """

    __slots__ = ("_arrays", "_layout", "_memory")

    def __init__(self, arrays: Mapping[str, Pieces]) -> None:
        layout: dict[str, tuple[int, tuple[int, ...], str]] = {}
        size = 0
        for name, pieces in arrays.items():
            layout[name] = (size, pieces.shape, pieces.dtype.str)
            size += -(-pieces.nbytes // _ALIGNMENT) * _ALIGNMENT
        memory = _allocate(size)
        self._memory = memory
        self._layout = layout
        self._arrays = self._view()
        for name, pieces in arrays.items():
            into = self.writable(name)
            at = 0
            for piece in pieces.pieces:
                into[at : at + len(piece)] = piece
                at += len(piece)

    @classmethod
    def blank(cls, layout: Layout) -> SharedArrays:
        """Make room for arrays that `memory` is then filled with; nobody may look before.

        Args:
            layout: That of the arrays which will come.
        """
        arrays = cls.__new__(cls)
        arrays.__setstate__((_allocate(layout.size), layout.places))
        return arrays

    @property
    def layout(self) -> Layout:
        """Where the arrays lie in the memory."""
        return Layout(self.nbytes, self._layout)

    @property
    def memory(self) -> torch.Tensor:
        """All bytes, for whoever sends or receives them; nobody else may write."""
        memory = self._memory
        return memory if isinstance(memory, torch.Tensor) else torch.from_numpy(memory)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, counted once for all processes."""
        return self._memory.nbytes

    @property
    def is_shared(self) -> bool:
        """Whether processes that are no forks of this one get it by descriptor rather than by value."""
        return isinstance(self._memory, torch.Tensor)

    def writable(self, name: str) -> Array:
        """Return an array for whoever makes it to write to; nobody else may."""
        memory = self._memory
        return _part(memory.numpy() if isinstance(memory, torch.Tensor) else memory, *self._layout[name])

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Any:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def _view(self) -> dict[str, Array]:
        memory = self._memory
        raw = memory.numpy() if isinstance(memory, torch.Tensor) else memory
        arrays = {name: _part(raw, *place) for name, place in self._layout.items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def __getstate__(self) -> tuple[Any, ...]:
        """Pickle the memory itself: torch's own reductions decide how it travels."""
        return self._memory, self._layout

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        memory, self._layout = state
        if isinstance(memory, torch.Tensor) and not memory.is_shared():
            # It came by value. Shared now, it never moves again; numpy's views would not follow.
            copy = _allocate(memory.nbytes)
            (copy.numpy() if isinstance(copy, torch.Tensor) else copy)[:] = memory.numpy()
            memory = copy
        self._memory = memory
        self._arrays = self._view()


def _part(raw: Array, offset: int, shape: tuple[int, ...], kind: str) -> Array:
    dtype = np.dtype(kind)
    return raw[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def _allocate(size: int) -> torch.Tensor | Array:
    """Return fresh memory, shared if it is worth it and there is room: beyond, the kernel ends the process."""
    if size >= _LEAST_SHARED:
        if _has_room(size):
            memory = allocate_shared(size)
            # The ranks of a job take theirs at the same time, and each has seen the same room.
            if take_pages(memory) and _has_room(0):
                return memory
        _log.warning("%s has no room for %d bytes: workers that are not forked get a copy each", _SHM, size)
    return np.empty(size, np.uint8)


def _has_room(size: int) -> bool:
    """Return whether there is room for more shared memory, and some to spare for what workers hand over."""
    try:
        return not _SHM.is_dir() or shutil.disk_usage(_SHM).free >= size + _SPARE
    except OSError:
        return True
