"""What went wrong, as an error of the tree: answers that are errors, and connections that broke."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from s3torch.client.direct.http1 import ResponseHead
from s3torch.client.direct.xml import parse_error
from s3torch.client.error_mapping import error_for
from s3torch.client.errors import RegionError, S3ConnectionError, S3Exception, S3TimeoutError, TLSError

if TYPE_CHECKING:
    from s3torch.client.direct.call import Operation

__all__ = ["error_of_answer", "error_of_connection"]

_NETWORK = "Check the endpoint's URL, the network, and HTTPS_PROXY and NO_PROXY."
# Operations whose success can turn into an error after status 200 was sent (API pages of each).
_LATE_ERRORS = ("CompleteMultipartUpload", "CopyObject", "UploadPartCopy")


def error_of_answer(operation: Operation, head: ResponseHead, body: bytes) -> S3Exception | None:
    """Return the error that a response is, or None for a success.

    Args:
        operation: What was asked.
        head: The response's head.
        body: The response's body, where it was collected.
    """
    is_success = 200 <= head.status < 300
    if is_success and operation.name not in _LATE_ERRORS:
        return None
    fields = parse_error(body)
    if is_success and fields is None:
        return None
    fields = fields or {}
    error = error_for(
        operation=operation.name,
        bucket=operation.bucket,
        key=operation.key,
        status=head.status,
        code=fields.get("Code"),
        message=fields.get("Message"),
        request_id=head.text(b"x-amz-request-id") or fields.get("RequestId"),
    )
    if isinstance(error, RegionError):
        error.region = fields.get("Region")
    return error


def error_of_connection(operation: Operation, error: Exception) -> S3Exception:
    """Return the error for a connection that failed.

    Args:
        operation: What was asked.
        error: What the socket, TLS or the name look-up raised; kept as the cause.
    """
    kind: type[S3Exception] = S3ConnectionError
    is_retryable = True
    remedy = _NETWORK
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        kind, is_retryable = TLSError, False
        message = f"the server's certificate is not trusted: {error.verify_message}"
        remedy = "Name the file of the authority that signed it: ca_bundle=..., or AWS_CA_BUNDLE."
    elif isinstance(error, ssl.SSLError):
        kind, is_retryable = TLSError, error.reason is None
        message = f"TLS failed: {error.reason or error}"
        remedy = "Check that the endpoint speaks TLS (https://) on this port."
    elif isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        kind = S3TimeoutError
        message = str(error)
    elif isinstance(error, socket.gaierror):
        is_retryable = error.errno == socket.EAI_AGAIN
        message = f"the endpoint's name is not known: {error.strerror}"
    elif isinstance(error, ConnectionRefusedError):
        message = "nothing accepts connections at the endpoint"
    elif not isinstance(error, OSError):
        is_retryable = False
    mapped = kind(
        message,
        operation=operation.name,
        bucket=operation.bucket,
        key=operation.key,
        remedy=remedy,
        is_retryable=is_retryable,
    )
    mapped.__cause__ = error
    return mapped
