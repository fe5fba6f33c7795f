"""The reader of known ranges, for distributed checkpoints."""

from s3torch.readers import DCPOptimizedS3Reader, ItemRange, RangeGroup

__all__ = ["DCPOptimizedS3Reader", "ItemRange", "RangeGroup"]
