"""The moto server starts, answers, records, and leaves no process behind, however its user ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.tests.processes import is_alive, still_there

from s3torch.harness.servers import MotoServer, ServerError

USER_OF_A_SERVER = """
import sys, time
from s3torch.harness.servers import MotoServer
with MotoServer() as server:
    print(server.pid, flush=True)
    time.sleep(120)
"""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def test_stores_and_returns_an_object(moto_server: MotoServer, s3_bucket: str) -> None:
    client = moto_server.boto3_client()
    client.put_object(Bucket=s3_bucket, Key="a key/ä", Body=b"0123456789")
    assert client.get_object(Bucket=s3_bucket, Key="a key/ä", Range="bytes=2-4")["Body"].read() == b"234"
    client.close()


def test_each_test_gets_a_bucket_of_its_own(moto_server: MotoServer, s3_bucket: str) -> None:
    client = moto_server.boto3_client()
    assert client.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0
    client.close()


def test_records_requests_within_the_block_only(moto_server: MotoServer, s3_bucket: str) -> None:
    client = moto_server.boto3_client()
    client.put_object(Bucket=s3_bucket, Key="before", Body=b"abc")
    with moto_server.recording() as requests:
        client.get_object(Bucket=s3_bucket, Key="before", Range="bytes=1-")["Body"].read()
        client.head_object(Bucket=s3_bucket, Key="before")
    client.head_object(Bucket=s3_bucket, Key="before")
    client.close()
    assert [(r.method, r.path, r.status) for r in requests] == [
        ("GET", f"/{s3_bucket}/before", 206),
        ("HEAD", f"/{s3_bucket}/before", 200),
    ]
    assert requests[0].headers["range"] == "bytes=1-"


def test_keeps_connections_open(moto_server: MotoServer, s3_bucket: str) -> None:
    client = moto_server.boto3_client()
    client.put_object(Bucket=s3_bucket, Key="key", Body=b"abc")
    with moto_server.recording() as requests:
        client.get_object(Bucket=s3_bucket, Key="key")["Body"].read()
        client.head_object(Bucket=s3_bucket, Key="key")
        client.put_object(Bucket=s3_bucket, Key="key", Body=b"abcd")
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket=s3_bucket, Key="missing")
        client.delete_object(Bucket=s3_bucket, Key="key")
    client.close()
    assert len(requests) == 5
    assert len({request.peer for request in requests}) == 1


def test_stop_ends_the_process_and_a_second_stop_does_nothing() -> None:
    with MotoServer() as server:
        pid = server.pid
        assert is_alive(pid)
        server.stop()
    assert still_there([pid], 30) == []
    with pytest.raises(ServerError, match="not running"):
        _ = server.endpoint


def test_a_start_that_takes_too_long_is_an_error() -> None:
    with pytest.raises(ServerError, match="not ready within 0 s"):
        MotoServer(start_timeout=0.0).start()


@posix_only
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_process_is_left_when_the_user_is_gone(sent: str) -> None:
    user = subprocess.Popen(
        [sys.executable, "-c", USER_OF_A_SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert user.stdout is not None
        server_pid = int(user.stdout.readline())
        assert is_alive(server_pid)
        user.send_signal(getattr(signal, sent))
        user.wait(20)
        assert still_there([server_pid], 30) == []
    finally:
        user.kill()
        user.wait(10)
        if user.stdout is not None:
            user.stdout.close()


@pytest.mark.usefixtures("dummy_aws_env")
def test_the_dummy_environment_hides_the_users_own() -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    assert "AWS_PROFILE" not in os.environ
    assert not Path(os.environ["AWS_CONFIG_FILE"]).is_file()
