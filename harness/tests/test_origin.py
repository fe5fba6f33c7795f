"""The origin answers as S3 does, judged by boto3, and leaves neither process nor file behind."""

from __future__ import annotations

import http.client
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, SSLError

from s3torch.harness.servers import Origin, OriginUnavailableError, ServerError

MIB = 1024 * 1024
KEYS = ["a/1", "a/2", "b+c d/é&<>", "b+c d/x", "c", "d", "e/f/g"]


@pytest.fixture
def bucket(origin: Origin) -> str:
    return origin.create_bucket(f"test-{uuid.uuid4().hex}")


@pytest.fixture
def client(origin: Origin) -> Iterator[Any]:
    client = origin.boto3_client()
    yield client
    client.close()


@pytest.fixture
def tls_client(origin: Origin) -> Iterator[Any]:
    client = origin.boto3_client(origin.tls_endpoint)
    yield client
    client.close()


def status_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response: Any = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_whole_and_range_and_head(client: Any, bucket: str) -> None:
    stored = client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    whole = client.get_object(Bucket=bucket, Key="k")
    assert whole["Body"].read() == b"0123456789"
    assert whole["ETag"] == stored["ETag"]
    part = client.get_object(Bucket=bucket, Key="k", Range="bytes=3-5")
    assert (part["Body"].read(), part["ContentRange"]) == (b"345", "bytes 3-5/10")
    assert client.get_object(Bucket=bucket, Key="k", Range="bytes=-2")["Body"].read() == b"89"
    head = client.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (10, stored["ETag"])


def test_conditions_and_ranges_that_fail(client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")["ETag"]
    assert client.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"0123456789"
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert status_of(caught) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    assert status_of(caught) == (416, "InvalidRange")
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=bucket, Key="k", Body=b"new", IfNoneMatch="*")
    assert status_of(caught) == (412, "PreconditionFailed")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0123456789"


def test_what_is_missing(client: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=bucket, Key="missing")
    assert status_of(caught) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket="no-such-bucket", Key="k")
    assert status_of(caught) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as caught:
        client.head_object(Bucket=bucket, Key="missing")
    assert status_of(caught)[0] == 404


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_lists_all_keys_in_pages(client: Any, bucket: str, page: int) -> None:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    found = []
    for each in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": page}):
        assert each["KeyCount"] <= page
        found += [(item["Key"], item["Size"]) for item in each.get("Contents", [])]
    assert found == sorted((key, len(key.encode())) for key in KEYS)


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_lists_common_prefixes_in_pages(client: Any, bucket: str, page: int) -> None:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    keys, prefixes = [], []
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": page}
    )
    for each in pages:
        keys += [item["Key"] for item in each.get("Contents", [])]
        prefixes += [item["Prefix"] for item in each.get("CommonPrefixes", [])]
    assert keys == ["c", "d"]
    assert prefixes == ["a/", "b+c d/", "e/"]


def test_lists_below_a_prefix_and_after_a_key(client: Any, bucket: str) -> None:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    below = client.list_objects_v2(Bucket=bucket, Prefix="a/")
    assert [item["Key"] for item in below["Contents"]] == ["a/1", "a/2"]
    after = client.list_objects_v2(Bucket=bucket, StartAfter="c")
    assert [item["Key"] for item in after["Contents"]] == ["d", "e/f/g"]


def test_deletes_one_and_many(client: Any, bucket: str) -> None:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    client.delete_object(Bucket=bucket, Key="c")
    client.delete_object(Bucket=bucket, Key="never there")
    named = [{"Key": key} for key in KEYS if key not in ("c", "d")]
    deleted = client.delete_objects(Bucket=bucket, Delete={"Objects": named})["Deleted"]
    assert {item["Key"] for item in deleted} == {item["Key"] for item in named}
    assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["d"]


def test_multipart_upload_appears_whole_when_completed(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="m/k")["UploadId"]
    bodies = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"]
    named = {"Bucket": bucket, "Key": "m/k", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**named, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    assert [part["Size"] for part in client.list_parts(**named)["Parts"]] == [len(body) for body in bodies]
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket=bucket, Key="m/k")["Body"].read() == b"".join(bodies)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_part_that_is_sent_twice_is_still_the_same(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    first = client.upload_part(**named, PartNumber=1, Body=b"part" * 100_000)["ETag"]
    time.sleep(1.1)  # a file's time tells seconds apart
    again = client.upload_part(**named, PartNumber=1, Body=b"part" * 100_000)["ETag"]
    assert again == first == client.list_parts(**named)["Parts"][0]["ETag"]
    assert client.upload_part(**named, PartNumber=2, Body=b"trap" * 100_000)["ETag"] != first
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first}]})
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"part" * 100_000


def test_multipart_upload_that_is_wrong_or_aborted(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = [client.upload_part(**named, PartNumber=number, Body=b"small")["ETag"] for number in (1, 2)]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    with pytest.raises(ClientError) as caught:
        client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    assert status_of(caught) == (400, "EntityTooSmall")
    with pytest.raises(ClientError) as caught:
        client.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"no"'}]})
    assert status_of(caught) == (400, "InvalidPart")
    assert [item["UploadId"] for item in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    client.abort_multipart_upload(**named)
    with pytest.raises(ClientError) as caught:
        client.list_parts(**named)
    assert status_of(caught) == (404, "NoSuchUpload")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_copies(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="from é", Body=b"abc")
    client.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from é"})
    assert client.get_object(Bucket=bucket, Key="to")["Body"].read() == b"abc"


def test_tls_takes_framed_bodies_and_only_trusting_clients(origin: Origin, tls_client: Any, bucket: str) -> None:
    body = bytes(range(256)) * 9000
    # Over TLS boto3 sends the checksum behind the body, in the aws-chunked framing.
    tls_client.put_object(Bucket=bucket, Key="k", Body=body)
    assert tls_client.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert (origin.root / bucket / "k").stat().st_size == len(body)
    import boto3

    wary = boto3.client(
        "s3",
        endpoint_url=origin.tls_endpoint,
        region_name=origin.region,
        aws_access_key_id=origin.access_key,
        aws_secret_access_key=origin.secret_key,
    )
    with pytest.raises(SSLError):
        wary.list_buckets()
    wary.close()


def test_latency_and_rate(origin: Origin, bucket: str) -> None:
    origin.fill(bucket, "k", 9 * MIB)
    connection = http.client.HTTPConnection(origin.latency_endpoint.removeprefix("http://"), timeout=20)
    start = time.perf_counter()
    connection.request("GET", f"/{bucket}/k")
    response = connection.getresponse()
    first_byte = time.perf_counter() - start
    size = len(response.read())
    whole = time.perf_counter() - start
    connection.close()
    assert size == 9 * MIB
    assert first_byte >= 0.029
    # nginx lets a burst pass, then holds the average.
    assert whole >= 0.03 + 0.8 * size / 90e6


def test_filled_content_is_reproducible_and_differs_everywhere(origin: Origin, bucket: str) -> None:
    for key, seed in (("a", 0), ("b", 0), ("c", 1)):
        origin.fill(bucket, key, 2 * MIB + 100, seed=seed)
    a, b, c = ((origin.root / bucket / key).read_bytes() for key in "abc")
    assert a == b
    assert a != c
    assert len(a) == 2 * MIB + 100
    assert a[:MIB] != a[MIB : 2 * MIB]


@pytest.mark.usefixtures("origin")
def test_nothing_is_left_after_the_end() -> None:
    with Origin() as other:
        processes = [psutil.Process(other.pid), *psutil.Process(other.pid).children(recursive=True)]
        root = other.root
        assert len(processes) > 2
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert not root.parent.exists()
    with pytest.raises(ServerError, match="not running"):
        _ = other.endpoint


@pytest.mark.usefixtures("origin")
def test_nothing_is_left_after_the_guard_loses_its_user() -> None:
    import subprocess
    import sys

    code = """
import time
from s3torch.harness.servers import Origin
with Origin() as origin:
    print(origin.pid, origin.root, flush=True)
    time.sleep(120)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        pid, root = user.stdout.readline().split()
        processes = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children(recursive=True)]
        user.kill()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert not Path(root).parent.exists()


def test_says_which_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(OriginUnavailableError, match="libnginx-mod-http-lua"):
        Origin().start()
