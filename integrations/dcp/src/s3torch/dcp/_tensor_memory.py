"""The memory of a tensor as bytes, without a copy."""

from __future__ import annotations

import ctypes

import torch

__all__ = ["byte_view", "is_plain"]


def is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor's elements are its memory: dense, on the CPU, in the order of its indices.

    Args:
        tensor: Any tensor. One of a subclass, such as a ``DTensor``, is not plain.
    """
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
        and tensor.is_contiguous()
    )


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return a plain tensor's memory.

    Args:
        tensor: The tensor; see `is_plain`. The view keeps its memory.

    Returns:
        The elements' bytes, writable, format ``B``.

    Raises:
        ValueError: The tensor is not plain.
    """
    if not is_plain(tensor):
        raise ValueError(f"not a dense, contiguous tensor on the CPU: {tensor.dtype} of {tuple(tensor.shape)}")
    if not tensor.nbytes:
        return memoryview(bytearray())
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    memory.owner = tensor  # type: ignore[attr-defined]  # a ctypes object takes attributes
    return memoryview(memory).cast("B")
