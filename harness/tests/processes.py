"""Whether processes have ended that a test has started, or has only heard of."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import psutil

__all__ = ["is_alive", "still_there"]


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
