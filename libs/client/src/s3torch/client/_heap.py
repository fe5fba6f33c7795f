"""Memory that comes and goes with every object stays with the process."""

from __future__ import annotations

import contextlib
import functools
import sys

# The largest that glibc heeds is 32 MiB with what it rounds up (DEFAULT_MMAP_THRESHOLD_MAX, mallopt(3)).
_BLOCK = 32 * 1024 * 1024 - 64 * 1024


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep up to 64 MiB of released memory for the objects that come next.

    By itself glibc gives the top of its heap back to the system as soon as 128 KiB of it are free, and the next object
    has to get it again, page by page. The limit becomes twice the largest mapped block that was ever released
    (M_MMAP_THRESHOLD in mallopt(3)), so one block is released here. It is never written to and takes no memory. What
    the user has set by ``MALLOC_TRIM_THRESHOLD_`` stays, and forked children inherit it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(MemoryError):
            bytes(_BLOCK)
