"""The model state that is saved and loaded: tensors whose every element says where it belongs."""

from __future__ import annotations

from typing import Any

import torch


def make_state(count: int, size: int) -> dict[str, torch.Tensor]:
    """Return ``count`` float32 tensors of ``size`` bytes, no two alike.

    Args:
        count: How many.
        size: Bytes of each.
    """
    base = torch.arange(size // 4, dtype=torch.float32)
    return {f"layer.{index}.weight": base + index for index in range(count)}


def memory_of(state: dict[str, torch.Tensor]) -> list[memoryview]:
    """Return the memory of tensors on the CPU, each contiguous."""
    return [tensor.numpy().data.cast("B") for tensor in state.values()]


def buffers(state: Any) -> list[Any]:
    """Return the tensors' memory, in the order of their numbers."""
    count = len(state)
    return [state[f"layer.{index}.weight"].contiguous().numpy().data.cast("B") for index in range(count)]
