"""Swift starts, answers, refuses what S3 refuses, serves both engines, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.tests.processes import is_alive, still_there

from s3torch.client import CredentialsError, S3Client, S3ClientConfig, S3Exception
from s3torch.harness.servers import ServerError, SwiftServer, SwiftUnavailableError
from s3torch.harness.servers.origin import memory_folder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Swift runs on Linux only"),
    # The first run on a machine installs Swift.
    pytest.mark.timeout(600),
]

MIB = 1024 * 1024

USER_OF_A_SERVER = """
import time
from s3torch.harness.servers import SwiftServer
with SwiftServer() as server:
    print(server.pid, server._directory, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def swift_env(swift_server: SwiftServer, dummy_aws_env: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in swift_server.env().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(swift_server: SwiftServer) -> str:
    return swift_server.create_bucket(f"test-{uuid.uuid4().hex}")


@pytest.fixture(params=["direct", "boto3"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(engine: str, swift_env: None) -> Iterator[S3Client]:
    with connect(engine) as client:
        yield client


def connect(engine: str, region: str = "us-east-1", **options: Any) -> S3Client:
    config = S3ClientConfig(engine=engine, force_path_style=True, part_size=5 * MIB, **options)
    return S3Client(region, s3client_config=config)


def wait_until_gone(pid: int, directory: Path, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    if still_there([pid], seconds):
        return False
    while directory.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_stores_and_returns_an_object(swift_server: SwiftServer, bucket: str) -> None:
    with contextlib.closing(swift_server.boto3_client()) as boto3:
        boto3.put_object(Bucket=bucket, Key="a key/ä", Body=b"0123456789")
        assert boto3.get_object(Bucket=bucket, Key="a key/ä", Range="bytes=2-4")["Body"].read() == b"234"
        assert boto3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_serves_both_engines(client: S3Client, bucket: str) -> None:
    data = bytes(range(256)) * 4 * 1024 * 11 + b"end"
    assert len(data) > 10 * MIB
    client.put(bucket, "large", data)
    assert client.read(bucket, "large") == data
    with client.put_stream(bucket, "streamed") as stream:
        stream.write(data)
    assert client.read(bucket, "streamed", start=6 * MIB) == data[6 * MIB :]
    assert [info.key for page in client.list_objects(bucket) for info in page.object_info] == ["large", "streamed"]
    assert client.delete_objects(bucket, ["large", "streamed"]) == []


def test_wrong_credentials_are_refused(
    engine: str, swift_env: None, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, wrong in (("AWS_SECRET_ACCESS_KEY", "wrong-secret"), ("AWS_ACCESS_KEY_ID", "test:stranger")):
        with monkeypatch.context() as patch:
            patch.setenv(name, wrong)
            with connect(engine) as client, pytest.raises(CredentialsError) as caught:
                client.read(bucket, "k")
        assert isinstance(caught.value, PermissionError)
        assert caught.value.remedy
        assert "wrong-secret" not in str(caught.value)


def test_another_region_is_followed_or_named(engine: str, swift_env: None, bucket: str) -> None:
    with connect(engine, "eu-central-1") as client:
        try:
            client.put(bucket, "k", b"data")
        except S3Exception as error:
            assert "us-east-1" in str(error)
            assert error.remedy
        else:
            assert client.read(bucket, "k") == b"data"


@pytest.mark.parametrize("checksum", ["crc32", "crc32c", "crc64nvme", "none"])
def test_takes_every_checksum(engine: str, swift_env: None, bucket: str, checksum: Any) -> None:
    if checksum in ("crc32c", "crc64nvme"):
        pytest.importorskip("awscrt")
    data = b"data" * MIB * 2
    with connect(engine, checksum=checksum) as client:
        client.put(bucket, "small", b"data")
        client.put(bucket, "large", data)
        assert client.read(bucket, "small") == b"data"
        assert client.read(bucket, "large") == data


def test_two_run_side_by_side(swift_server: SwiftServer, bucket: str) -> None:
    with SwiftServer() as other:
        assert other.endpoint != swift_server.endpoint
        with contextlib.closing(other.boto3_client()) as boto3:
            assert boto3.list_buckets()["Buckets"] == []
    with contextlib.closing(swift_server.boto3_client()) as boto3:
        assert bucket in {each["Name"] for each in boto3.list_buckets()["Buckets"]}


def test_stop_ends_the_process_and_a_second_stop_does_nothing() -> None:
    with SwiftServer() as server:
        pid, directory = server.pid, server._directory
        assert is_alive(pid)
        assert directory is not None
        assert str(directory).startswith(memory_folder() or "/")
        server.stop()
    assert wait_until_gone(pid, directory)
    with pytest.raises(ServerError, match="not running"):
        _ = server.endpoint


def test_a_server_that_is_killed_leaves_nothing_behind() -> None:
    with SwiftServer() as server:
        pid, directory = server.pid, server._directory
        assert directory is not None
        psutil.Process(pid).kill()
        assert still_there([pid], 30) == []
    assert wait_until_gone(pid, directory)


def test_a_start_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SwiftServer(start_timeout=0.0)
    made: list[str] = []
    make = tempfile.mkdtemp

    def note(*arguments: Any, **options: Any) -> str:
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", note)
    with pytest.raises(ServerError, match="not ready within 0 s"):
        server.start()
    assert made
    assert not any(Path(folder).exists() for folder in made)


def test_no_package_index_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3TORCH_HARNESS_CACHE", str(tmp_path / "cache"))
    for name, value in {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(SwiftUnavailableError, match="package index"):
        SwiftServer().start()


def test_another_platform_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(SwiftUnavailableError, match="Linux only"):
        SwiftServer().start()


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_the_user_is_gone(sent: str) -> None:
    user = subprocess.Popen(
        [sys.executable, "-c", USER_OF_A_SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert user.stdout is not None
        pid, directory = user.stdout.readline().split()
        assert is_alive(int(pid))
        user.send_signal(getattr(signal, sent))
        user.wait(20)
        assert wait_until_gone(int(pid), Path(directory))
    finally:
        user.kill()
        user.wait(10)
        if user.stdout is not None:
            user.stdout.close()
