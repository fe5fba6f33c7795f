"""The copy of a state that `async_save` saves, where torch has no stager that makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.distributed.checkpoint import staging

__all__ = ["WriterStager"]

if TYPE_CHECKING or hasattr(staging, "DefaultStager"):

    class WriterStager:
        """Nothing: torch's own stager is faster than one that a writer can be."""

else:
    from torch.distributed._state_dict_utils import _copy_state_dict, _create_cpu_state_dict

    class WriterStager(staging.BlockingAsyncStager):
        """Copies the state before training goes on; what an older torch does by default leaves CPU tensors shared."""

        def stage(self, state_dict):
            """Return a copy on the CPU."""
            return _copy_state_dict(state_dict, _create_cpu_state_dict(state_dict))
