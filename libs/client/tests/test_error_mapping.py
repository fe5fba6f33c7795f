"""What stores answer becomes the right error, with what to do about it, and without a secret."""

from __future__ import annotations

import pytest

from s3torch.client import (
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
from s3torch.client.error_mapping import error_for


def make(
    status: int | None,
    code: str | None = None,
    *,
    operation: str = "PutObject",
    key: str | None = "k",
    message: str | None = None,
) -> S3Exception:
    return error_for(
        operation=operation, bucket="b", key=key, status=status, code=code, message=message, request_id="REQ"
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (301, "PermanentRedirect", RegionError),
        (301, None, RegionError),
        (307, "TemporaryRedirect", RegionError),
        (400, "AuthorizationHeaderMalformed", RegionError),
        (400, "IllegalLocationConstraintException", RegionError),
        (400, "ExpiredToken", CredentialsError),
        (400, "InvalidToken", CredentialsError),
        (400, "TokenRefreshRequired", CredentialsError),
        (401, None, CredentialsError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (403, "SignatureDoesNotMatch", CredentialsError),
        (403, "RequestTimeTooSkewed", CredentialsError),
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidObjectState", AccessDeniedError),
        (403, None, AccessDeniedError),
        (404, "NoSuchBucket", BucketNotFoundError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (404, "NoSuchUpload", ObjectNotFoundError),
        (404, "404", ObjectNotFoundError),
        (404, None, ObjectNotFoundError),
        (404, "NoSuchTagSet", S3NotFoundError),
        (407, None, S3ConnectionError),
        (409, "OperationAborted", PreconditionFailedError),
        (412, "PreconditionFailed", PreconditionFailedError),
        (416, "InvalidRange", InvalidRangeError),
        (429, None, ThrottledError),
        (503, "SlowDown", ThrottledError),
        (503, None, ThrottledError),
        (500, "InternalError", ServerError),
        (500, None, ServerError),
        (502, None, ServerError),
        (504, None, ServerError),
        (400, "RequestTimeout", ServerError),
        (400, "BadDigest", ChecksumError),
        (400, "XAmzContentChecksumMismatch", ChecksumError),
        (400, "EntityTooSmall", S3Exception),
        (400, "SomethingNew", S3Exception),
        (400, None, S3Exception),
        (418, None, S3Exception),
        (501, "NotImplemented", S3Exception),
        (200, "InternalError", ServerError),
        (200, "SlowDown", ThrottledError),
        (None, None, S3Exception),
    ],
)
def test_status_and_code_decide(status: int | None, code: str | None, expected: type[S3Exception]) -> None:
    error = make(status, code)
    assert type(error) is expected
    assert error.remedy
    assert error.remedy in str(error)
    assert "s3://b/k" in str(error)
    assert "PutObject" in str(error)
    assert (error.status, error.request_id) == (status, "REQ")


def test_a_code_that_is_a_number_is_none() -> None:
    # botocore says so where a response has no body.
    assert make(404, "404").code is None


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("RequestTimeout", 400)])
def test_what_may_pass_is_retryable(code: str, status: int) -> None:
    assert make(status, code).is_retryable


@pytest.mark.parametrize(
    ("code", "status"), [("NoSuchKey", 404), ("AccessDenied", 403), ("InvalidRange", 416), (None, 501), (None, 400)]
)
def test_what_stays_is_not_retryable(code: str | None, status: int) -> None:
    assert not make(status, code).is_retryable


@pytest.mark.parametrize("operation", ["GetObject", "UploadPartCopy"])
def test_a_failed_etag_of_a_read_means_that_the_object_changed(operation: str) -> None:
    assert type(make(412, "PreconditionFailed", operation=operation)) is ObjectChangedError
    assert type(make(412, None, operation=operation)) is ObjectChangedError


def test_without_a_key_what_is_missing_is_the_bucket() -> None:
    assert type(make(404, None, operation="ListObjectsV2", key=None)) is BucketNotFoundError


def test_the_stores_own_message_is_passed_on_in_one_line() -> None:
    message = "User: arn:aws:iam::1:user/x is not\n authorized to perform: s3:PutObject."
    text = str(make(403, "AccessDenied", message=message))
    assert "User: arn:aws:iam::1:user/x is not authorized to perform: s3:PutObject (HTTP 403" in text


def test_a_long_message_is_cut() -> None:
    assert len(make(400, "SomethingNew", message="x" * 10_000).message) <= 500


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"])
def test_messages_about_credentials_are_our_own(code: str) -> None:
    assert "AKIASECRET" not in str(make(403, code, message="the key AKIASECRET is wrong"))


def test_a_refusal_names_the_permission() -> None:
    assert "s3:ListBucket" in str(make(403, "AccessDenied", operation="ListObjectsV2", key=None))
    assert "s3:GetObject" in str(make(403, None, operation="HeadObject"))
