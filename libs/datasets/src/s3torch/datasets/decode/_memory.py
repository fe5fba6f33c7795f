"""Memory for samples, in a form that goes to another process without a copy."""

from __future__ import annotations

import torch

__all__ = ["new_tensor"]


def new_tensor(count: int, dtype: torch.dtype, *, shared: bool) -> torch.Tensor:
    """Return a one-dimensional tensor that holds anything.

    Args:
        count: Elements.
        dtype: Their type.
        shared: Whether its memory can be handed to another process as it is.
    """
    if not shared or not count:
        return torch.empty(count, dtype=dtype)
    # As torch's own collation does; `share_memory_` would fill the memory with a copy of nothing first.
    storage = torch.UntypedStorage._new_shared(count * dtype.itemsize)  # noqa: SLF001  # nothing public does this
    return torch.empty(0, dtype=dtype).set_(storage)
