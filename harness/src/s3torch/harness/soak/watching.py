"""What a process holds: memory, threads, descriptors, children. From the kernel's books on Linux, else by psutil."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sample", "settle", "take_sample"]

_PROC = Path("/proc/self")
_SETTLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """What this process held at one moment."""

    seconds: float
    """When, on the clock of the soak."""
    memory: int
    """Resident memory in bytes."""
    threads: int
    """Threads of the operating system."""
    descriptors: int
    """Open files, sockets and pipes."""
    children: int
    """Child processes, ended ones that nobody has waited for included."""


def take_sample(seconds: float) -> Sample:
    """Return what this process holds.

    Args:
        seconds: The moment, on the caller's clock.
    """
    if _PROC.is_dir():
        memory = int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        tasks = list((_PROC / "task").iterdir())
        children = 0
        for task in tasks:
            try:
                children += len((task / "children").read_text().split())
            except OSError:  # a thread that has just ended, or a kernel without the list
                continue
        # One is the listing's own.
        return Sample(seconds, memory, len(tasks), len(os.listdir("/proc/self/fd")) - 1, children)  # noqa: PTH208 - names alone
    import psutil

    process = psutil.Process()
    # Windows has handles in their place, and psutil there no such method.
    descriptors = getattr(process, "num_handles", None) or process.num_fds
    return Sample(seconds, process.memory_info().rss, process.num_threads(), descriptors(), len(process.children()))


def settle() -> None:
    """Free what is garbage, give it back to the system, and let threads and children that are ending end."""
    gc.collect()
    gc.collect()  # what the first run's finalizers have let go of
    _trim()
    # Threads and processes that have been joined may still be ending in the kernel's books.
    time.sleep(_SETTLE_SECONDS)


def _trim() -> None:
    """Have the C library return free memory, so that what is resident is what is held (glibc: malloc_trim(3))."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
