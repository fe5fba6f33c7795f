"""The copy of a state that `async_save` saves while training changes the state."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Hashable
from typing import Any, TypeAlias

import torch
from torch.distributed.checkpoint.staging import AsyncStager

__all__ = ["StateCopier", "WriterStager"]

Path: TypeAlias = "tuple[Hashable, ...]"
# Who holds memory that is free: one tensor, and the object that stands for its storage while it is asked.
_OURS = 2


class StateCopier:
    """Copies states to the CPU, each over the one before as soon as nothing refers to that any more.

    Memory that has been used before takes a copy several times faster than fresh memory, whose pages the system has to
    find and to clear. Whether a copy is still needed is not guessed but counted, tensor by tensor: an upload refers to
    the memory that it sends.

    Args:
        keeps_memory: Whether to keep the memory between two copies.
    """

    def __init__(self, *, keeps_memory: bool = True) -> None:
        self._keeps_memory = keeps_memory
        self._last: dict[Path, torch.Tensor] = {}

    @torch.no_grad()
    def copy(self, state: Any) -> Any:
        """Copy a state, so that training may go on.

        Args:
            state: Dictionaries, lists and tuples of tensors, of ``DTensor`` and ``ShardedTensor``, and of anything
                else.

        Returns:
            The same structure; no tensor shares memory with that of the state.
        """
        last, self._last = self._last, {}
        return self._copy(state, (), last, {})

    def clear(self) -> None:
        """Let go of the memory."""
        self._last = {}

    def __reduce__(self) -> Any:
        # Another process gets no memory of this one.
        return _make_copier, (self._keeps_memory,)

    def _copy(self, value: Any, path: Path, last: dict[Path, torch.Tensor], copied: dict[int, torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in copied:  # tied weights stay tied
                copied[id(value)] = self._copy_tensor(value.detach(), path, last)
            return copied[id(value)]
        if isinstance(value, dict):
            return {key: self._copy(each, (*path, key), last, copied) for key, each in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._copy(each, (*path, index), last, copied) for index, each in enumerate(value))
        return copy.deepcopy(value)

    def _copy_tensor(self, tensor: torch.Tensor, path: Path, last: dict[Path, torch.Tensor]) -> torch.Tensor:
        if type(tensor) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_quantized:
            memory = last.pop(path, None)
            if memory is None or not _is_free(memory) or (memory.shape, memory.dtype) != (tensor.shape, tensor.dtype):
                memory = torch.empty_like(tensor, device="cpu")
            memory.copy_(tensor)
            if not self._keeps_memory:
                return memory
            self._last[path] = memory
            return memory.detach()  # another reference to the memory, which counts
        if hasattr(tensor, "__tensor_flatten__"):  # a DTensor and its like
            names, context = tensor.__tensor_flatten__()
            inner = {name: getattr(tensor, name) for name in names}
            for name, each in inner.items():
                if isinstance(each, torch.Tensor):
                    inner[name] = self._copy_tensor(each, (*path, name), last)
            kind: Any = type(tensor)
            whole: torch.Tensor = kind.__tensor_unflatten__(inner, context, tensor.shape, tensor.stride())
            return whole
        return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()


class WriterStager(AsyncStager):
    """Makes a storage writer the stager of its own saves."""

    _copier: StateCopier

    @property
    def should_synchronize_after_execute(self) -> bool:
        """Whether there is anything to wait for once `stage` has returned: no."""
        return False

    def stage(self, state_dict: Any, **_: Any) -> Any:
        """Copy the state to the CPU, over the copy of the last save if that has ended.

        Args:
            state_dict: The state.

        Returns:
            The copy.
        """
        return self._copier.copy(state_dict)

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` has copied everything when it returns."""

    def close(self) -> None:
        """Let go of the memory that is kept for the next save."""
        self._copier.clear()


def _make_copier(keeps_memory: bool) -> StateCopier:
    return StateCopier(keeps_memory=keeps_memory)


def _is_free(memory: torch.Tensor) -> bool:
    """Tell whether nothing but this tensor refers to its memory, in this process or in another."""
    storage = memory.untyped_storage()
    # The one object that stands for the storage in Python counts once, however many names it has.
    if sys.getrefcount(storage) > _one_name():
        return False
    count: int = torch._C._storage_Use_Count(storage._cdata)  # noqa: SLF001  # there is no public name
    return count == _OURS and not memory.is_shared()


@functools.cache
def _one_name() -> int:
    """Return the count of references to a storage that has one name; it depends on the versions of Python and torch."""
    memory = torch.zeros(1)
    storage = memory.untyped_storage()
    return sys.getrefcount(storage)
