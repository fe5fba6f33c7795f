"""Save and load torch objects on S3."""

from s3torch.checkpoint.s3checkpoint import S3Checkpoint

__all__ = ["S3Checkpoint"]
