"""Buckets are emptied also on stores, and by users, that cannot do all that helps with it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._emptying import empty

REFUSAL = b"<Error><Code>AccessDenied</Code><Message>not you</Message></Error>"


class Raw(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self, **_: object) -> Iterator[bytes]:
        """Yield all of it."""
        yield self.read()


@pytest.fixture
def client(moto_server: MotoServer, s3_bucket: str) -> Iterator[Any]:
    """A client of a bucket with twelve objects and an upload below a prefix, and one more object."""
    with closing(moto_server.boto3_client()) as client:
        for number in range(12):
            client.put_object(Bucket=s3_bucket, Key=f"below/{number:04}", Body=b"x")
        client.create_multipart_upload(Bucket=s3_bucket, Key="below/unfinished")
        client.put_object(Bucket=s3_bucket, Key="kept", Body=b"x")
        yield client


def refuse(client: Any, call: str, part: str = "") -> None:
    """Let the store refuse calls, or those with this in their URL."""

    def answer(request: Any, **_: object) -> AWSResponse | None:
        return AWSResponse(request.url, 403, {}, Raw(REFUSAL)) if part in request.url else None

    client.meta.events.register(f"before-send.s3.{call}", answer)


def keys_of(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def uploads_of(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


@pytest.mark.parametrize("refused", [None, "DeleteObjects"])
def test_removes_all_below_a_prefix_and_nothing_else(client: Any, s3_bucket: str, refused: str | None) -> None:
    if refused is not None:
        refuse(client, refused)
    emptied = empty(client, s3_bucket, "below/")
    assert (emptied.objects, emptied.doubt) == (12, None)
    assert keys_of(client, s3_bucket) == ["kept"]
    assert uploads_of(client, s3_bucket) == []


def test_removes_the_objects_where_uploads_cannot_be_listed(client: Any, s3_bucket: str) -> None:
    refuse(client, "ListMultipartUploads")
    emptied = empty(client, s3_bucket)
    assert emptied.objects == 13
    assert "not you" in (emptied.doubt or "")
    assert keys_of(client, s3_bucket) == []


def test_removes_the_others_where_one_cannot_be(client: Any, s3_bucket: str) -> None:
    refuse(client, "DeleteObjects")
    refuse(client, "DeleteObject", "below/0003")
    with pytest.raises(ClientError, match="not you"):
        empty(client, s3_bucket)
    assert keys_of(client, s3_bucket) == ["below/0003"]
    assert uploads_of(client, s3_bucket) == []
