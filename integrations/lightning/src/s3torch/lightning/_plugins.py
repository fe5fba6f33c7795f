"""The plugin that a Trainer's strategy has."""

from __future__ import annotations

from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["find_plugin"]


def find_plugin(checkpoint_io: object) -> S3LightningCheckpoint | None:
    """Find the one for S3, also within plugins that wrap others, such as Lightning's ``AsyncCheckpointIO``.

    Args:
        checkpoint_io: The plugin of a strategy.
    """
    while checkpoint_io is not None and not isinstance(checkpoint_io, S3LightningCheckpoint):
        checkpoint_io = getattr(checkpoint_io, "checkpoint_io", None)
    return checkpoint_io
