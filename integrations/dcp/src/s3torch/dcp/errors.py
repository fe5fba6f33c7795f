"""What is wrong with a checkpoint as a whole; what the store refuses is one of `s3torch.client.errors`."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CheckpointExistsError",
    "CheckpointNotFoundError",
    "CheckpointVersionError",
    "CorruptCheckpointError",
]


class CheckpointError(RuntimeError):
    """Base: the message names the checkpoint and says what to do."""


class CheckpointExistsError(CheckpointError, FileExistsError):
    """There is a checkpoint already, and it was not to be overwritten."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint: nothing was ever saved there, or no attempt was committed."""


class CorruptCheckpointError(CheckpointError):
    """What is stored is not what was saved: cut short, replaced, incomplete or not a checkpoint at all."""


class CheckpointVersionError(CheckpointError):
    """Another version of torch, or of a package of the user's, is needed to understand the checkpoint."""
