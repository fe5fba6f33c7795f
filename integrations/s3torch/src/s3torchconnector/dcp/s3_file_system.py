"""Storage of distributed checkpoints."""

from s3torch.dcp import S3FileSystem, S3StorageReader, S3StorageWriter

__all__ = ["S3FileSystem", "S3StorageReader", "S3StorageWriter"]
