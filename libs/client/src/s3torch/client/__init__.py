"""S3's verbs over HTTP: bytes go from the socket into their final place, and no thread stands between."""

from s3torch.client.client import S3Client
from s3torch.client.config import ChecksumAlgorithm, S3ClientConfig
from s3torch.client.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ChecksumError,
    CredentialsError,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ProtocolError,
    RegionError,
    S3ConnectionError,
    S3Exception,
    S3NotFoundError,
    S3TimeoutError,
    ServerError,
    ThrottledError,
    TLSError,
)
from s3torch.client.protocols import Engine, EngineContext, Transfer
from s3torch.client.stream import GetObjectStream
from s3torch.client.upload import PutObjectStream
from s3torch.client.uri import S3Uri, parse_s3_uri
from s3torch.client.user_agent import UserAgent
from s3torch.client.user_agent import version as __version__
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetInfo,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    ObjectInfo,
    PartResult,
    PutOptions,
    PutResult,
    RestoreStatus,
    S3BucketKeyData,
)

__all__ = [
    "AccessDeniedError",
    "BucketNotFoundError",
    "ChecksumAlgorithm",
    "ChecksumError",
    "CopyResult",
    "CredentialsError",
    "DeleteError",
    "Engine",
    "EngineContext",
    "GetInfo",
    "GetObjectStream",
    "GetRequest",
    "GetResult",
    "HeadObjectResult",
    "InvalidRangeError",
    "ListObjectResult",
    "ObjectChangedError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "PartResult",
    "PreconditionFailedError",
    "ProtocolError",
    "PutObjectStream",
    "PutOptions",
    "PutResult",
    "RegionError",
    "RestoreStatus",
    "S3BucketKeyData",
    "S3Client",
    "S3ClientConfig",
    "S3ConnectionError",
    "S3Exception",
    "S3NotFoundError",
    "S3TimeoutError",
    "S3Uri",
    "ServerError",
    "TLSError",
    "ThrottledError",
    "Transfer",
    "UserAgent",
    "__version__",
    "parse_s3_uri",
]
