"""Memory for samples, in a form that goes to another process without a copy."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info

from s3torch.datasets._shared_memory import allocate_shared

__all__ = ["new_tensor"]


def new_tensor(count: int, dtype: torch.dtype, *, shared: bool, pinned: bool = False) -> torch.Tensor:
    """Return a one-dimensional tensor that holds anything.

    Args:
        count: Elements.
        dtype: Their type.
        shared: Whether its memory can be handed to another process as it is.
        pinned: Whether an accelerator, if there is one, can copy from it by itself; never in a ``DataLoader`` worker.
    """
    if pinned and get_worker_info() is None and torch.accelerator.is_available():
        return torch.empty(count, dtype=dtype, pin_memory=True)
    if not shared or not count:
        return torch.empty(count, dtype=dtype)
    return allocate_shared(count * dtype.itemsize).view(dtype)
