"""Processes of tests: Python that is run to its end, and whether others have ended that a test has heard of."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from s3torch.harness.servers._address import dummy_environment, own_environment

__all__ = ["is_alive", "run_python", "still_there"]

ROOT = Path(__file__).parents[2]


def run_python(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run Python from the checkout, with a dummy identity and nothing of the user's; return how it has ended.

    Args:
        arguments: Those of the interpreter.
        seconds: How long it may take.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=ROOT,
        env={**own_environment(), **dummy_environment()},
    )


def is_alive(process: Any) -> bool:
    """Whether a process, given as psutil's or by its id, has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process) if isinstance(process, int) else process
        # A zombie that nobody reaps here has ended all the same, and another may have got its number.
        return bool(found.is_running() and found.status() != psutil.STATUS_ZOMBIE)
    return False


def still_there(processes: Sequence[Any], seconds: float = 30.0) -> list[Any]:
    """Return those that have not ended in time."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if is_alive(process)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []
