"""The whole demo, as a user runs it: in a process of its own, to its end, into errors, and into Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from harness.tests.processes import still_there

from s3torch.harness.servers import MotoServer

SMALL = ["--samples", "128", "--epochs", "2"]
DEADLINE = 160.0

# Several processes import torch one after the other, which takes its time on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(175)]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def demo(*options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.cli", "demo", *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
        env=env,
    )


@contextlib.contextmanager
def demo_in_training(*options: str, env: dict[str, str] | None = None) -> Iterator[tuple[psutil.Popen, list[Any]]]:
    """Start the demo and wait until it trains; yield it and all processes below it."""
    process = psutil.Popen(
        [sys.executable, "-m", "s3torch.cli", "demo", "--samples", "128", "--epochs", "100", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**(os.environ if env is None else env), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if "Epoch 1" in line:
                break
        below = process.children(recursive=True)
        assert len(below) >= 3  # a training process and two workers at least; the server has a session of its own
        yield process, below
    finally:
        for left in [process, *process.children(recursive=True)] if process.is_running() else []:
            left.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def keys_of(server: MotoServer, bucket: str) -> list[str]:
    client = server.boto3_client()
    try:
        return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    finally:
        client.close()


def test_it_runs_to_its_end_and_proves_its_point() -> None:
    finished = demo(*SMALL)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    lines = [line.strip() for line in finished.stdout.splitlines()]
    assert sum(line.startswith("EQUAL: the losses of all 4 batches") for line in lines) == 1
    assert any(line.startswith("Killed (") and line.endswith("in epoch 2 at step 2 of 4") for line in lines)
    straight, resumed = (
        next(line for line in lines if line.startswith(f"{name} ")) for name in ("uninterrupted", "resumed")
    )
    assert straight.removeprefix("uninterrupted").split() == resumed.removeprefix("resumed").split()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--epochs", "1"], "--epochs"),
        (["--epochs", "few"], "--epochs"),
        (["--uri", "bucket"], "--uri"),
        (["--engine", "memory"], "--engine"),
        (["--endpoint", "http://127.0.0.1:1"], "--uri"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_a_bad_argument_is_one_line_and_status_2(options: list[str], named: str) -> None:
    finished = demo(*options)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert named in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_bucket_that_is_not_there_is_one_line_and_status_1(moto_server: MotoServer) -> None:
    where = ["--uri", "s3://never-made", "--endpoint", moto_server.endpoint, "--region", "us-east-1", "--keep"]
    finished = demo(*SMALL, *where, env={**os.environ, **moto_server.env()})
    assert finished.returncode == 1
    assert "never-made" in finished.stderr
    assert finished.stderr.count("\n") == 1


@posix_only
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_leaves_no_process_and_no_traceback(sent: str, status: int) -> None:
    with demo_in_training() as (process, below):
        process.send_signal(getattr(signal, sent))
        process.stdout.read()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(30) == status
        assert still_there(below) == []


@posix_only
def test_in_a_users_bucket_it_writes_below_its_prefix_and_removes_that(moto_server: MotoServer, s3_bucket: str) -> None:
    client = moto_server.boto3_client()
    client.put_object(Bucket=s3_bucket, Key="mine/own", Body=b"stays")
    client.close()
    where = ["--uri", f"s3://{s3_bucket}/mine/", "--endpoint", moto_server.endpoint, "--region", "us-east-1"]
    with demo_in_training(*where, env={**os.environ, **moto_server.env()}) as (process, below):
        keys = [key for key in keys_of(moto_server, s3_bucket) if key != "mine/own"]
        assert len(keys) >= 128
        assert all(key.startswith("mine/s3torch-demo-") for key in keys)
        process.send_signal(signal.SIGTERM)
        assert "Removed the" in process.stdout.read()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(30) == 143
        assert still_there(below) == []
    assert keys_of(moto_server, s3_bucket) == ["mine/own"]
