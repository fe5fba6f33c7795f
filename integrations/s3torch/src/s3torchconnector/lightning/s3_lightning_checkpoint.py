"""The plugin for Lightning's checkpoints."""

# First, so that where Lightning is not installed, this fails as importing it does.
import lightning  # noqa: F401  # isort: skip

from s3torch.lightning import S3LightningCheckpoint

__all__ = ["S3LightningCheckpoint"]
