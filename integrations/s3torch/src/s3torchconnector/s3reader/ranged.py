"""The reader of ranges."""

from s3torch.readers import RangedS3Reader

__all__ = ["RangedS3Reader"]
