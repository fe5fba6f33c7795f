"""The values and streams by the path that the original's signatures name them."""

from collections.abc import Iterator
from typing import TypeAlias

from s3torch.client import (
    GetObjectStream,
    HeadObjectResult,
    ListObjectResult,
    ObjectInfo,
    RestoreStatus,
    S3Exception,
)
from s3torch.client.upload import PutObjectStream

__all__ = [
    "GetObjectStream",
    "HeadObjectResult",
    "ListObjectResult",
    "ListObjectStream",
    "ObjectInfo",
    "PutObjectStream",
    "RestoreStatus",
    "S3Exception",
]

ListObjectStream: TypeAlias = Iterator[ListObjectResult]
"""What ``S3Client.list_objects`` returns."""
