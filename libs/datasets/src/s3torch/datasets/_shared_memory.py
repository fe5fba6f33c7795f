"""Memory that goes to another process as it is: by descriptor, without a copy."""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys

import torch

__all__ = ["allocate_shared", "take_pages"]

_POPULATE_WRITE = 23  # madvise(2), MADV_POPULATE_WRITE, since Linux 5.14; Python does not name it


def allocate_shared(size: int) -> torch.Tensor:
    """Return fresh shared memory as a tensor of uint8; it is all zeros, and takes no room until it is written to.

    Args:
        size: Bytes, more than none.

    Raises:
        RuntimeError: There is no room for it.
    """
    # As torch's own collation does; the public `share_memory_` would fill the memory with a copy first.
    storage = torch.UntypedStorage._new_shared(size)  # noqa: SLF001  # nothing public does this
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def take_pages(memory: torch.Tensor) -> bool:
    """Take all pages of shared memory now, when it can still be helped that there are none.

    Without a page the first write to it would end the process (SIGBUS), and until then others may take what was free.

    Args:
        memory: Shared memory that is still all zeros.

    Returns:
        Whether they are there; also true where the system cannot tell.
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):  # a C library without it
        return True
    start = memory.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = memory.data_ptr() + memory.nbytes - start
    refused: int = madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(_POPULATE_WRITE))
    return not refused or ctypes.get_errno() != errno.EFAULT  # "a SIGBUS would have been generated"
