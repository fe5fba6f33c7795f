"""The reader of known ranges, for distributed checkpoints."""

from s3torch.readers import DEFAULT_MAX_GAP_SIZE, DCPOptimizedS3Reader, ItemRange, RangeGroup

__all__ = ["DEFAULT_MAX_GAP_SIZE", "DCPOptimizedS3Reader", "ItemRange", "RangeGroup"]
