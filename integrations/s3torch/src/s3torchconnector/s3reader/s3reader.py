"""The base of all readers."""

from s3torch.readers import S3Reader

__all__ = ["S3Reader"]
