"""Uploads to a server in another process, with engines that have sockets."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from s3torch.client import PreconditionFailedError, PutOptions, S3Client, S3ClientConfig, S3Exception

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

MIB = 1024**2
PART = 5 * MIB
KEY = "folder/a key"


@pytest.fixture(params=["direct", "boto3"])
def client(request: pytest.FixtureRequest, moto_server: MotoServer) -> S3Client:
    config = S3ClientConfig(part_size=PART, force_path_style=True, max_connections=4, engine=request.param)
    return S3Client(moto_server.region, endpoint=moto_server.endpoint, s3client_config=config)


def pattern(size: int) -> bytes:
    return bytes((os.urandom(4099) * (size // 4099 + 1))[:size])


def uploads(server: MotoServer, bucket: str) -> list[str]:
    answer = server.boto3_client().list_multipart_uploads(Bucket=bucket)
    return [upload["UploadId"] for upload in answer.get("Uploads", [])]


def objects(server: MotoServer, bucket: str) -> list[str]:
    answer = server.boto3_client().list_objects_v2(Bucket=bucket)
    return [item["Key"] for item in answer.get("Contents", [])]


def test_writes_of_all_sizes_arrive(client: S3Client, moto_server: MotoServer, s3_bucket: str) -> None:
    data = pattern(3 * PART + 12345)
    options = PutOptions(metadata={"colour": "blue"}, content_type="text/plain")
    with client.put_stream(s3_bucket, KEY, options=options) as stream:
        start = 0
        for size in (1, 1000, PART, 70_000, 2 * PART, len(data)):
            piece = bytearray(data[start : start + size])
            stream.write(piece)
            piece[:] = bytes(len(piece))
            start += size
    found = moto_server.boto3_client().get_object(Bucket=s3_bucket, Key=KEY)
    assert found["Body"].read() == data
    assert found["Metadata"] == {"colour": "blue"}
    assert found["ContentType"] == "text/plain"
    assert stream.result is not None
    assert stream.result.etag == found["ETag"]
    assert found["ETag"].endswith('-4"')
    assert uploads(moto_server, s3_bucket) == []


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 4 * PART + 3])
def test_put_of_any_size(client: S3Client, moto_server: MotoServer, s3_bucket: str, size: int) -> None:
    data = pattern(size)
    client.put(s3_bucket, KEY, data)
    assert moto_server.boto3_client().get_object(Bucket=s3_bucket, Key=KEY)["Body"].read() == data


def test_what_fits_one_part_is_one_request(client: S3Client, moto_server: MotoServer, s3_bucket: str) -> None:
    with moto_server.recording() as requests, client.put_stream(s3_bucket, KEY) as stream:
        for _ in range(50):
            stream.write(bytes(1000))
    assert [request.method for request in requests if s3_bucket in request.path] == ["PUT"]


@pytest.mark.parametrize("size", [100, 2 * PART + 1])
@pytest.mark.parametrize("end", ["abort", "exception", "drop"])
def test_nothing_remains_of_what_was_given_up(
    client: S3Client, moto_server: MotoServer, s3_bucket: str, size: int, end: str
) -> None:
    def give_up() -> None:
        if end == "abort":
            stream = client.put_stream(s3_bucket, KEY)
            stream.write(pattern(size))
            stream.abort()
        elif end == "exception":
            with client.put_stream(s3_bucket, KEY) as stream:
                stream.write(pattern(size))
                raise KeyError("mine")
        else:
            stream = client.put_stream(s3_bucket, KEY)
            stream.write(pattern(size))
            del stream
            gc.collect()

    if end == "exception":
        with pytest.raises(KeyError, match="mine"):
            give_up()
    else:
        give_up()
    assert uploads(moto_server, s3_bucket) == []
    assert objects(moto_server, s3_bucket) == []


def test_create_only(client: S3Client, moto_server: MotoServer, s3_bucket: str) -> None:
    options = PutOptions(if_none_match=True)
    client.put(s3_bucket, KEY, b"first", options=options)
    with pytest.raises(PreconditionFailedError):
        client.put(s3_bucket, KEY, b"second", options=options)
    assert client.read(s3_bucket, KEY) == b"first"


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_a_missing_bucket_is_the_error(client: S3Client, size: int) -> None:
    def run() -> None:
        stream = client.put_stream("no-such-bucket", KEY)
        stream.write(bytes(size))
        stream.close()

    with pytest.raises(S3Exception) as caught:
        run()
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.code == "NoSuchBucket"


_WRITER = """
    import sys, time
    from s3torch.client import S3Client, S3ClientConfig

    engine, endpoint, region, bucket, key = sys.argv[1:]
    config = S3ClientConfig(part_size=5 << 20, force_path_style=True, engine=engine)
    stream = S3Client(region, endpoint=endpoint, s3client_config=config).put_stream(bucket, key)
    stream.write(bytes(3 * (5 << 20) + 1))
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_object(client: S3Client, moto_server: MotoServer, s3_bucket: str) -> None:
    client.put(s3_bucket, KEY, b"old")
    engine = str(client.s3client_config.engine)
    arguments = [engine, moto_server.endpoint, moto_server.region, s3_bucket, KEY]
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"written\n"
        finally:
            process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait(30)
    assert client.read(s3_bucket, KEY) == b"old"
    # Nobody was left to delete the parts: that is for a lifecycle rule, or for whoever aborts the upload.
    (upload_id,) = uploads(moto_server, s3_bucket)
    client.engine.abort_multipart(s3_bucket, KEY, upload_id)
    assert uploads(moto_server, s3_bucket) == []


_MEMORY = """
    import sys
    from s3torch.client import S3Client, S3ClientConfig

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

    endpoint, region, bucket, key = sys.argv[1:]
    config = S3ClientConfig(part_size=8 << 20, force_path_style=True)
    client = S3Client(region, endpoint=endpoint, s3client_config=config)
    client.put(bucket, key, b"warm up")
    data = bytearray(96 << 20)
    data[::4096] = b"x" * len(data[::4096])
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    with client.put_stream(bucket, key) as stream:
        for start in range(0, len(data), 20 << 20):
            stream.write(b"head" * 40)
            stream.write(memoryview(data)[start : start + (20 << 20)])
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")  # noqa: PTH110  # a constant
def test_memory_over_the_data_is_bounded(moto_server: MotoServer, s3_bucket: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_MEMORY)]
    command += [moto_server.endpoint, moto_server.region, s3_bucket, KEY]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64 * MIB
