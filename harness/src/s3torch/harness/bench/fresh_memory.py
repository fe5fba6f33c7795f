"""Memory at the same price for all who run.

A virtual machine may hand pages that have been free for a second back to its host (free page reporting, in the kernel's
documentation of memory management), and the host takes pages away that the machine has not looked at for some seconds.
To have one again costs a fault of the host's, several times what the kernel's own does: whoever ran first after a pause
would pay for all.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable
from pathlib import Path

from s3torch.harness.bench.machine import available_memory
from s3torch.harness.bench.subjects.memory import advise_huge, fresh_map

__all__ = ["recall", "reread"]

# The most hungry peers hold two and a half times what they read.
_COPIES = 3
_PIECE = 1024 * 1024
_REPORTING = Path("/sys/module/page_reporting")
# Free pages are reported two seconds after some were freed (mm/page_reporting.c), and a report takes its time.
_REPORT_SECONDS = 2.5


def recall(size: int) -> None:
    """Take as much memory as a run with so much data may need, and free it: the next who asks gets it fast.

    Where free pages are reported to a host it first waits until those that others have freed are: the report would come
    between, and take what was just taken back.

    Args:
        size: Bytes of the data. No more than a quarter of the memory that is available is taken.
    """
    if _REPORTING.exists():
        time.sleep(_REPORT_SECONDS)
    available = available_memory()
    length = min(_COPIES * size, available // 4) if available else size
    with fresh_map(length) as memory:
        with memoryview(memory) as view:
            advise_huge(view)
        memory[:: mmap.PAGESIZE] = bytes(-(-length // mmap.PAGESIZE))


def reread(places: Iterable[Path]) -> int:
    """Read files in memory, so that whoever serves them next finds them there; return their bytes.

    Args:
        places: Files, and folders of files.
    """
    piece = memoryview(bytearray(_PIECE))
    total = 0
    for place in places:
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.is_file():
                with path.open("rb", buffering=0) as file:
                    while count := file.readinto(piece):
                        total += count
    return total
