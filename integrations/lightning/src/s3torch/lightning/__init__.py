"""Lightning checkpoints on S3."""

from s3torch.lightning.s3_async_lightning_checkpoint import S3AsyncLightningCheckpoint
from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint
from s3torch.lightning.s3_model_checkpoint import S3ModelCheckpoint
from s3torch.lightning.strategies import S3FSDPStrategy, S3ModelParallelStrategy

__all__ = [
    "S3AsyncLightningCheckpoint",
    "S3FSDPStrategy",
    "S3LightningCheckpoint",
    "S3ModelCheckpoint",
    "S3ModelParallelStrategy",
]
