"""Lightning checkpoints on S3."""

from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["S3LightningCheckpoint"]
