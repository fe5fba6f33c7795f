"""The default reader."""

from s3torch.readers import SequentialS3Reader

__all__ = ["SequentialS3Reader"]
