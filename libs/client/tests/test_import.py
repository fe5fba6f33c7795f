"""What importing the client costs: little time, no thread, no connection."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

RUNS = 5
LIMIT_S = 0.150
# A busy machine stretches every time; boto3's own import, measured beside ours, tells by how much.
USUAL_BOTO3_S = 0.25

MEASURE = """
import json, time
began = time.perf_counter()
import boto3, botocore.session
between = time.perf_counter()
import s3torch.client
ended = time.perf_counter()
print(json.dumps([between - began, ended - between]))
"""

LOOK = """
import socket, sys, threading
made = []
audited = ("socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind", "_thread.start_new_thread",
           "subprocess.Popen", "os.fork", "os.posix_spawn")
sys.addaudithook(lambda event, args: made.append(event) if event in audited else None)
before = threading.active_count()
import s3torch.client
client = s3torch.client.S3Client("us-east-1")
assert threading.active_count() == before == 1, threading.enumerate()
assert made == [], made
heavy = {"torch", "numpy", "boto3", "botocore", "awscrt", "moto", "s3torch.harness"} & set(sys.modules)
assert not heavy, heavy
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_importing_the_client_is_fast_beside_boto3() -> None:
    run(MEASURE)  # fills the caches
    boto3_s, client_s = zip(*(json.loads(run(MEASURE)) for _ in range(RUNS)), strict=True)
    slowdown = max(1.0, statistics.median(boto3_s) / USUAL_BOTO3_S)
    assert statistics.median(client_s) <= LIMIT_S * slowdown


def test_importing_the_client_starts_nothing() -> None:
    run(LOOK)


@pytest.mark.parametrize("module", ["s3torch.client.direct", "s3torch.client.memory", "s3torch.client.direct.sigv4"])
def test_modules_can_be_imported_first(module: str) -> None:
    run(f"import {module}")
