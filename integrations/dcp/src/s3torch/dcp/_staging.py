"""The copy of a state that `async_save` saves, where torch has no stager that makes one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint import staging

__all__ = ["WriterStager", "copy_state"]


def copy_state(value: Any) -> Any:
    """Copy a state to the CPU, so that training may go on.

    Args:
        value: Dictionaries, lists and tuples of tensors, of ``DTensor`` and ``ShardedTensor``, and of anything else.

    Returns:
        The same structure; no tensor shares memory with that of the state.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.clone() if value.device.type == "cpu" else value.cpu()
    if isinstance(value, dict):
        return {key: copy_state(nested) for key, nested in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copy_state(nested) for nested in value)
    return copy.deepcopy(value)


if TYPE_CHECKING or hasattr(staging, "DefaultStager"):

    class WriterStager:
        """Nothing: torch's own stager is faster than one that a writer can be."""

else:

    class WriterStager(staging.BlockingAsyncStager):
        """Copies the state before training goes on; the stagers of older versions of torch leave CPU tensors shared."""

        def stage(self, state_dict):
            """Return a copy on the CPU."""
            return copy_state(state_dict)
