"""Lightning checkpoints in S3."""

from s3torchconnector.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["S3LightningCheckpoint"]
