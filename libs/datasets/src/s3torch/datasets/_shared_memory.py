"""Memory that goes to another process as it is: by descriptor, without a copy."""

from __future__ import annotations

import torch

__all__ = ["allocate_shared"]


def allocate_shared(size: int) -> torch.Tensor:
    """Return fresh shared memory as a tensor of uint8; it is all zeros, and takes no room until it is written to.

    Args:
        size: Bytes, more than none.

    Raises:
        RuntimeError: There is no room for it.
    """
    # As torch's own collation does; the public `share_memory_` would fill the memory with a copy first.
    storage = torch.UntypedStorage._new_shared(size)  # noqa: SLF001  # nothing public does this
    return torch.empty(0, dtype=torch.uint8).set_(storage)
