"""Options of a client."""

from s3torch.client import S3ClientConfig

__all__ = ["S3ClientConfig"]
