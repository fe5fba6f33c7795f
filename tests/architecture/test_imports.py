"""What an import may cost: no torch where none is needed, no thread, no connection, little time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

WATCHED_IMPORT = """
import json, sys

seen = []
watched = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "_thread.start", "subprocess.Popen", "os.fork")
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(watched) else None)
import {package}
import gc, socket, threading

print(json.dumps({{
    "events": seen,
    "threads": threading.active_count(),
    "sockets": sum(issubclass(type(thing), socket.socket) and thing.fileno() >= 0 for thing in gc.get_objects()),
    "torch": "torch" in sys.modules,
}}))
"""

TIMED_IMPORT = """
import time
start = time.process_time()
import boto3
between = time.process_time()
import s3torch.client
print([between - start, time.process_time() - between])
"""
# What importing boto3 takes on the machine that the limit is for: one that takes longer is slower.
USUAL_BOTO3_S = 0.5


def run(code: str) -> Any:
    """Run code in an interpreter of its own, and return what it prints, read as JSON."""
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("package", ["s3torch.client", "s3torch.readers", "s3torch.writer"])
def test_importing_needs_no_torch_thread_or_connection(package: str) -> None:
    assert run(WATCHED_IMPORT.format(package=package)) == {"events": [], "threads": 1, "sockets": 0, "torch": False}


@pytest.mark.parametrize("package", ["s3torch.datasets", "s3torch.checkpoint", "s3torchconnector"])
def test_importing_beside_torch_opens_no_connection(package: str) -> None:
    watched = run(WATCHED_IMPORT.format(package=package))
    assert not [event for event in watched["events"] if event.startswith("socket.")]
    assert watched["sockets"] == 0


def test_the_watch_sees_threads_and_connections() -> None:
    """Guards the tests above: an import that did open something would show."""
    noisy = "threading, socket; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    noisy += "; kept = socket.socket(); kept.connect_ex(('127.0.0.1', 1))"
    watched = run(WATCHED_IMPORT.format(package=noisy))
    assert "socket.connect" in watched["events"]
    assert watched["threads"] == 2
    assert watched["sockets"] == 1


def test_importing_the_client_takes_at_most_150_ms_beyond_boto3() -> None:
    # CPU time, and the best of five, because other processes share the machine.
    boto3_s, client_s = zip(*(run(TIMED_IMPORT) for _ in range(5)), strict=True)
    assert min(client_s) <= 0.150 * max(1.0, min(boto3_s) / USUAL_BOTO3_S)
