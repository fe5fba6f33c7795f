"""From botocore's exceptions to errors of the tree."""

from __future__ import annotations

from s3torch.client.error_mapping import error_for
from s3torch.client.errors import (
    ChecksumError,
    CredentialsError,
    ProtocolError,
    RegionError,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
    TLSError,
)

__all__ = ["translate"]

# Class and its bases by name, as botocore imports slowly and its classes differ between versions: first match decides.
_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "NoAuthTokenError",
    "SSOError",
    "LoginError",
    "ProfileNotFound",
    "UnknownCredentialError",
    "InvalidConfigError",
    "MetadataRetrievalError",
    "RefreshWithMFAUnsupportedError",
)
_NEW_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile that exists, sign in again, or pass "
    "S3ClientConfig(unsigned=True) for a public bucket."
)
_TABLE: tuple[tuple[tuple[str, ...], type[S3Exception], str, str, bool], ...] = (
    (_CREDENTIALS, CredentialsError, "there are no usable credentials", _NEW_CREDENTIALS, False),
    (
        ("NoRegionError", "InvalidRegionError"),
        RegionError,
        "no region is known",
        "Pass region=..., set AWS_REGION, or give the profile a region.",
        False,
    ),
    (
        ("SSLError",),
        TLSError,
        "TLS could not be set up with {endpoint}",
        "If its certificate is signed by your own authority, pass its file as ca_bundle or AWS_CA_BUNDLE.",
        False,
    ),
    (
        ("ConnectTimeoutError", "ReadTimeoutError"),
        S3TimeoutError,
        "{endpoint} did not answer in time",
        "Check the endpoint, network and proxy settings, or raise connect_timeout or read_timeout.",
        True,
    ),
    (
        ("FlexibleChecksumError", "ChecksumError"),
        ChecksumError,
        "the bytes do not have the checksum that was sent with them",
        "Try again; if it goes on, the object or something on the way is damaged.",
        True,
    ),
    (
        ("HTTPClientError", "ConnectionError", "IncompleteReadError", "OSError"),
        S3ConnectionError,
        "{endpoint} could not be reached, or the connection broke",
        "Check the endpoint, network and proxy settings.",
        True,
    ),
    (
        ("ResponseParserError",),
        ProtocolError,
        "what came back from {endpoint} is not an answer of S3",
        "Check that the endpoint is that of an S3-compatible store.",
        False,
    ),
)


def translate(error: Exception, operation: str, bucket: str, key: str | None, endpoint: str | None) -> Exception:
    """Find the error of the tree that stands for one of botocore's.

    Args:
        error: What boto3 raised.
        operation: The S3 operation.
        bucket: The bucket asked.
        key: The key asked.
        endpoint: The endpoint given to the client.

    Returns:
        The error to raise; `ValueError` where botocore rejected an argument before any request.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ClientError" in names:
        response = getattr(error, "response", {})
        problem, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
        return error_for(
            operation=operation,
            bucket=bucket,
            key=key,
            status=metadata.get("HTTPStatusCode"),
            code=problem.get("Code"),
            message=problem.get("Message"),
            request_id=metadata.get("RequestId"),
        )
    if "ParamValidationError" in names or "ValidationError" in names or isinstance(error, (ValueError, TypeError)):
        return ValueError(f"{operation} s3://{bucket}/{key or ''}: {' '.join(str(error).split())}")
    for kinds, kind, message, remedy, is_retryable in _TABLE:
        if not names.isdisjoint(kinds):
            return kind(
                message.format(endpoint=endpoint or "Amazon S3") + f" ({type(error).__name__})",
                operation=operation,
                bucket=bucket,
                key=key,
                remedy=remedy,
                is_retryable=is_retryable,
            )
    return S3Exception(
        f"{type(error).__name__}: {error}".rstrip("."),
        operation=operation,
        bucket=bucket,
        key=key,
        remedy="Check the AWS configuration: environment, profile, region and endpoint.",
    )
