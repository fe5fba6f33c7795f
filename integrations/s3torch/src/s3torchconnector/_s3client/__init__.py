"""The client and its options."""

from s3torchconnector._s3client._s3client import S3Client
from s3torchconnector._s3client.s3client_config import S3ClientConfig

__all__ = ["S3Client", "S3ClientConfig"]
