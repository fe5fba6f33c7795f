"""From what a store answers to an error of the tree, with its remedy: the one table all engines share.

Codes and statuses are those of "Error responses" in the Amazon S3 API reference. The code decides where one came,
because S3 answers some failed operations with status 200; the status decides otherwise, as for HEAD, which has no body.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3torch.client.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ChecksumError,
    CredentialsError,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RegionError,
    S3ConnectionError,
    S3Exception,
    S3NotFoundError,
    ServerError,
    ThrottledError,
)

__all__ = ["error_for"]

_MESSAGE_LIMIT = 500  # characters of the store's own message that are passed on


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one code or status stands for."""

    error: type[S3Exception]
    message: str
    """Our sentence, where the store sent none."""
    remedy: str
    is_retryable: bool = False
    own_message_only: bool = False
    """Whether the store's message is kept out: it says less than ours, or may quote credentials."""


def _credentials(message: str, remedy: str) -> _Rule:
    return _Rule(CredentialsError, message, remedy, own_message_only=True)


_REGION = _Rule(
    RegionError,
    "the bucket is in another region",
    "Pass the bucket's own region (or set AWS_REGION), or the endpoint that serves it.",
)
_EXPIRED = _credentials(
    "the credentials have expired",
    "Get fresh ones (for single sign-on: aws sso login) or use a profile or role that renews them by itself.",
)
_THROTTLED = _Rule(
    ThrottledError,
    "the store asks to slow down",
    "Try again later, use fewer connections or workers, or spread the keys over more prefixes.",
    is_retryable=True,
)
_SERVER = _Rule(
    ServerError,
    "the store failed",
    "Try again later; if it goes on, give the request id to the store's operator.",
    is_retryable=True,
)
_PRECONDITION = _Rule(
    PreconditionFailedError,
    "a condition of the request does not hold",
    "The object is not, or no longer, in the state asked for: look at it again and decide anew.",
)
_UNCHANGED = _Rule(
    PreconditionFailedError,
    "the object is still the one that was named",
    "Use what you have of it, or ask without if_none_match.",
)
_CHANGED = _Rule(
    ObjectChangedError,
    "the object was replaced while it was read",
    "Read it again from the start.",
    own_message_only=True,
)
_CONFLICT = _Rule(
    PreconditionFailedError,
    "another request changes the same object",
    "Try again when the other request has ended.",
    is_retryable=True,
)
_RANGE = _Rule(
    InvalidRangeError,
    "the range lies outside the object",
    "Ask for bytes within the object's size; an empty object has no range at all.",
)
_CORRUPT = _Rule(
    ChecksumError,
    "what the store received does not have the checksum that was sent with it",
    "Try again; if it goes on, something on the way (a proxy, the memory) damages the data.",
    is_retryable=True,
)
_BUCKET = _Rule(
    BucketNotFoundError,
    "the bucket does not exist",
    "Check the bucket's name, and that region and endpoint are those of the store that has it.",
)
_OBJECT = _Rule(
    ObjectNotFoundError, "the object does not exist", "Check the key; list the bucket to see what is there."
)
_UPLOAD = _Rule(
    ObjectNotFoundError,
    "the multipart upload does not exist",
    "It was completed, aborted, or removed by a lifecycle rule: begin a new one.",
)
_PARTS = _Rule(
    S3Exception,
    "a part of the upload is missing or is not the one named",
    "Complete with the number and ETag that each part's upload returned, in ascending order.",
)
_UNSUPPORTED = _Rule(
    S3Exception,
    "the store does not implement this operation or one of its options",
    "Leave out the option (checksum, tags, encryption, condition), or use a store that has it.",
)

_BY_CODE: dict[str, _Rule] = {
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "IncorrectEndpoint": _REGION,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _credentials(
        "the store does not know the access key", "Check the access key id, and that the endpoint is that of its store."
    ),
    "InvalidSecurity": _credentials("the credentials are not valid", "Check them, or get new ones."),
    "InvalidToken": _credentials(
        "the session token is not valid",
        "Get fresh credentials; a session token belongs to its own access key and secret.",
    ),
    "NotSignedUp": _credentials("the account does not use S3", "Sign it up, or use the credentials of another."),
    "RequestTimeTooSkewed": _credentials(
        "this host's clock differs too much from the store's", "Set the clock: signatures hold for 15 minutes only."
    ),
    "SignatureDoesNotMatch": _credentials(
        "the store does not accept the signature",
        "Check the secret access key; a proxy that changes requests has the same effect.",
    ),
    "UnrecognizedClientException": _credentials("the credentials are not valid", "Check them, or get new ones."),
    "NoSuchBucket": _BUCKET,
    "NoSuchKey": _OBJECT,
    "NoSuchVersion": _OBJECT,
    "NoSuchUpload": _UPLOAD,
    "InvalidObjectState": _Rule(
        AccessDeniedError, "the object is archived", "Restore it first, then read the restored copy."
    ),
    "PreconditionFailed": _PRECONDITION,
    "ConditionalRequestConflict": _CONFLICT,
    "OperationAborted": _CONFLICT,
    "InvalidRange": _RANGE,
    "BadDigest": _CORRUPT,
    "XAmzContentChecksumMismatch": _CORRUPT,
    "XAmzContentSHA256Mismatch": _CORRUPT,
    "InvalidDigest": _Rule(ChecksumError, "the checksum sent is not a valid one", "Choose another checksum."),
    "BandwidthLimitExceeded": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestThrottledException": _THROTTLED,
    "ServiceUnavailable": _THROTTLED,
    "SlowDown": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequests": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "InternalError": _SERVER,
    "RequestTimeout": _Rule(
        ServerError,
        "the store waited too long for the request's bytes",
        "Try again; if it goes on, use fewer connections or smaller parts.",
        is_retryable=True,
    ),
    "EntityTooSmall": _Rule(
        S3Exception, "a part is too small", "Every part of an upload but the last holds at least 5 MiB."
    ),
    "EntityTooLarge": _Rule(
        S3Exception, "the object or part is too large", "One request takes 5 GiB at most: send larger data in parts."
    ),
    "InvalidPart": _PARTS,
    "InvalidPartOrder": _PARTS,
    "NotImplemented": _UNSUPPORTED,
}

_BY_STATUS: dict[int, _Rule] = {
    301: _REGION,
    304: _UNCHANGED,
    307: _REGION,
    308: _REGION,
    400: _Rule(
        S3Exception,
        "the store takes the request for a bad one",
        "Check the region, the endpoint, and that the credentials have not expired.",
    ),
    401: _credentials("the store asks for valid credentials", "Check the credentials."),
    407: _Rule(S3ConnectionError, "the proxy asks for credentials", "Put them into HTTPS_PROXY, or bypass the proxy."),
    409: _CONFLICT,
    411: _UNSUPPORTED,
    412: _PRECONDITION,
    416: _RANGE,
    429: _THROTTLED,
    501: _UNSUPPORTED,
    503: _THROTTLED,
}

# Operations whose only condition is the ETag of what they read.
_PINNED = frozenset({"GetObject", "UploadPartCopy"})

_PERMISSIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CopyObject": "s3:GetObject on the source and s3:PutObject on the copy",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "UploadPartCopy": "s3:GetObject on the source and s3:PutObject on the copy",
}


def error_for(
    *,
    operation: str | None,
    bucket: str | None,
    key: str | None,
    status: int | None,
    code: str | None,
    message: str | None = None,
    request_id: str | None = None,
) -> S3Exception:
    """Make the error for a failed response.

    Args:
        operation: The S3 operation, such as ``GetObject``.
        bucket: The bucket asked.
        key: The key asked; None where the operation has none.
        status: HTTP status of the response.
        code: Code in the response's body, such as ``NoSuchKey``; None, empty or a number where there was no body.
        message: Message in the response's body.
        request_id: The store's id of the request.

    Returns:
        The error, to be raised; whether a retry may help stands in ``is_retryable``.
    """
    code = code if code and not code.isdigit() else None
    rule = _BY_CODE.get(code) if code else None
    if status == 412 and operation in _PINNED:
        rule = _CHANGED
    if rule is None:
        rule = _for_status(operation, key, status, code)
    text = " ".join((message or "").split()).rstrip(".")[:_MESSAGE_LIMIT] if code else ""
    return rule.error(
        rule.message if rule.own_message_only or not text else text,
        operation=operation,
        bucket=bucket,
        key=key,
        status=status,
        code=code,
        request_id=request_id or None,
        remedy=rule.remedy,
        is_retryable=rule.is_retryable,
    )


def _for_status(operation: str | None, key: str | None, status: int | None, code: str | None) -> _Rule:
    """Find the rule where the code says nothing."""
    if status is None:
        return _Rule(S3Exception, "the request failed", "Look at the code and message.")
    if status == 403:
        return _forbidden(operation, code)
    if status == 404:
        return _missing(key, code)
    if (rule := _BY_STATUS.get(status)) is not None:
        return rule
    if status >= 500:
        return _SERVER
    if status < 400:
        return _Rule(S3Exception, f"the store answered {status}, which is no answer here", "Check the endpoint.")
    return _Rule(S3Exception, "the store refuses the request", "Check the request's options, region and endpoint.")


def _forbidden(operation: str | None, code: str | None) -> _Rule:
    permission = _PERMISSIONS.get(operation or "", "s3:PutObject")
    remedy = f"Check that the credentials are the ones meant and that they allow {permission}."
    if code is None:
        remedy += " The store gives no reason here: a missing object looks the same to who may not list the bucket."
    return _Rule(AccessDeniedError, "the store refuses access", remedy)


def _missing(key: str | None, code: str | None) -> _Rule:
    if code not in (None, "NotFound"):
        return _Rule(
            S3NotFoundError, "what was asked for does not exist", "Check the bucket, the key and the endpoint."
        )
    if key is None:
        return _BUCKET
    return _Rule(
        ObjectNotFoundError, "the object, or its bucket, does not exist", "Check the bucket's name and the key."
    )
