"""How readers are chosen."""

from s3torch.readers import S3ReaderConstructor

__all__ = ["S3ReaderConstructor"]
