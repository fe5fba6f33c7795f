"""How readers are chosen."""

from s3torch.readers import DCPOptimizedConstructor, S3ReaderConstructor

__all__ = ["DCPOptimizedConstructor", "S3ReaderConstructor"]
