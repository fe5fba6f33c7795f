"""Errors are one tree, cross processes, and say what to do."""

from __future__ import annotations

import copy
import pickle

import pytest

import s3torch.client as client_module
from s3torch.client import (
    AccessDeniedError,
    ObjectNotFoundError,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
)

ALL = [value for value in vars(client_module).values() if isinstance(value, type) and issubclass(value, S3Exception)]


def make(kind: type[S3Exception]) -> S3Exception:
    return kind(
        "it broke",
        operation="GetObject",
        bucket="b",
        key="k ä",
        status=500,
        code="Broken",
        request_id="REQ",
        remedy="Mend it.",
        is_retryable=True,
    )


def test_all_are_there() -> None:
    assert len(ALL) == 17


@pytest.mark.parametrize("kind", ALL)
def test_tells_all_it_knows(kind: type[S3Exception]) -> None:
    text = "GetObject s3://b/k ä: it broke (HTTP 500, code Broken, request id REQ). Mend it."
    assert str(make(kind)) == text


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(kind: type[S3Exception], protocol: int) -> None:
    error = make(kind)
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert vars(other) == vars(error)
        assert str(other) == str(error)


@pytest.mark.parametrize(
    ("kind", "standard"),
    [
        (ObjectNotFoundError, FileNotFoundError),
        (AccessDeniedError, PermissionError),
        (S3ConnectionError, ConnectionError),
        (S3TimeoutError, TimeoutError),
    ],
)
def test_is_what_the_standard_library_calls_it(kind: type[S3Exception], standard: type[OSError]) -> None:
    with pytest.raises(standard):
        raise make(kind)


def test_says_little_where_little_is_known() -> None:
    assert str(S3Exception()) == "failed."
    assert str(S3Exception("it broke")) == "it broke."
    assert str(S3Exception("it broke", bucket="b")) == "S3 s3://b: it broke."
