"""Checkpoints in S3."""

from s3torch.checkpoint import S3Checkpoint

__all__ = ["S3Checkpoint"]
