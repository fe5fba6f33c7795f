"""One tree of errors: each says what failed, why, and what to do about it.

Where the standard library has a name for the condition (`FileNotFoundError`, `PermissionError`, `ConnectionError`,
`TimeoutError`), the error is that too, so that code which knows nothing of S3 handles it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessDeniedError",
    "BucketNotFoundError",
    "ChecksumError",
    "CredentialsError",
    "InvalidRangeError",
    "ObjectChangedError",
    "ObjectNotFoundError",
    "PreconditionFailedError",
    "ProtocolError",
    "RegionError",
    "S3ConnectionError",
    "S3Exception",
    "S3NotFoundError",
    "S3TimeoutError",
    "ServerError",
    "TLSError",
    "ThrottledError",
]


class S3Exception(Exception):
    """Base of every error that talking to S3 raises.

    Args:
        message: What happened, in a sentence without the fields below.
        operation: The S3 operation, such as ``GetObject``.
        bucket: The bucket asked.
        key: The key asked.
        status: HTTP status, where a response came.
        code: S3 error code, such as ``NoSuchKey``.
        request_id: The store's id of the request, for its operator.
        remedy: What the user can do.
        is_retryable: Whether the same call may succeed later.
    """

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        bucket: str | None = None,
        key: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        remedy: str | None = None,
        is_retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.status = status
        self.code = code
        self.request_id = request_id
        self.remedy = remedy
        self.is_retryable = is_retryable

    def __str__(self) -> str:
        where = ""
        if self.bucket is not None:
            where = f" s3://{self.bucket}/{self.key}" if self.key is not None else f" s3://{self.bucket}"
        head = f"{self.operation or 'S3'}{where}: " if self.operation or where else ""
        facts = [
            f"{name} {value}"
            for name, value in (("HTTP", self.status), ("code", self.code), ("request id", self.request_id))
            if value is not None
        ]
        tail = f" ({', '.join(facts)})" if facts else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{head}{self.message}{tail}.{remedy}" if self.message else f"{head}failed{tail}.{remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields: errors cross from DataLoader workers to the main process."""
        return _rebuild, (type(self), self.message, {k: v for k, v in self.__dict__.items() if k != "message"})


def _rebuild(cls: type[S3Exception], message: str, fields: dict[str, Any]) -> S3Exception:
    error = cls(message)
    error.__dict__.update(fields)
    return error


class S3NotFoundError(S3Exception, FileNotFoundError):
    """The bucket or the object does not exist."""


class BucketNotFoundError(S3NotFoundError):
    """The bucket does not exist."""


class ObjectNotFoundError(S3NotFoundError):
    """The object (or the multipart upload) does not exist."""


class AccessDeniedError(S3Exception, PermissionError):
    """The store refused the request (403)."""


class CredentialsError(AccessDeniedError):
    """There are no credentials, or the store does not accept them: unknown, wrong or expired."""


class PreconditionFailedError(S3Exception):
    """A condition sent with the request did not hold (409, 412)."""


class ObjectChangedError(PreconditionFailedError):
    """The object was replaced while it was read; nothing of the mixture is returned."""


class InvalidRangeError(S3Exception):
    """The range asked for lies outside the object (416)."""


class RegionError(S3Exception):
    """The bucket is in another region and the request could not be redirected there."""

    region: str | None = None
    """The bucket's region, where the store named it."""


class ThrottledError(S3Exception):
    """The store asked to slow down (429, 503) for longer than the retries last."""


class ServerError(S3Exception):
    """The store failed (5xx) for longer than the retries last."""


class S3ConnectionError(S3Exception, ConnectionError):
    """The endpoint could not be reached, or the connection broke for longer than the retries last."""


class TLSError(S3ConnectionError):
    """TLS could not be set up with the endpoint, such as when its certificate is not trusted."""


class S3TimeoutError(S3Exception, TimeoutError):
    """The store did not answer, or stopped in the middle, for longer than the deadlines allow."""


class ProtocolError(S3Exception):
    """What came back is not a valid answer to what was asked."""


class ChecksumError(S3Exception):
    """The bytes do not have the checksum that was sent with them."""
