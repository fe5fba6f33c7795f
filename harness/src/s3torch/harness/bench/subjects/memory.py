"""Fresh memory to receive into, in huge pages where the platform has them."""

from __future__ import annotations

import ctypes
import io
import mmap
import sys

_HUGE_PAGE = 2 * 1024 * 1024
_MADV_HUGEPAGE = 14


def advise_huge(view: memoryview) -> None:
    """Ask for huge pages under the aligned inside of a writable buffer; does nothing where that is unknown."""
    if sys.platform != "linux" or view.nbytes < 2 * _HUGE_PAGE:
        return
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    start = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    stop = (address + view.nbytes) // _HUGE_PAGE * _HUGE_PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    # Advice: its failure changes nothing but the speed.
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_HUGEPAGE)


def fresh_map(size: int) -> mmap.mmap:
    """Return writable memory that nobody has touched: the target of every measured ``readinto``."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    # Private, as the memory of tensors and arrays is: shared, as it would be else, it takes no advice on huge pages.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def touch(memory: memoryview) -> None:
    """Read a byte of each page of a buffer of bytes."""
    memory[:: mmap.PAGESIZE].tobytes()


class BytesTarget:
    """A ``bytes`` object in the making: fill ``view``, then take ``result`` without a copy."""

    def __init__(self, size: int) -> None:
        self._file = io.BytesIO(bytes(size))
        self.view = self._file.getbuffer()
        """The memory to fill."""

    def result(self) -> bytes:
        """Return the filled memory as ``bytes``."""
        self.view.release()
        return self._file.getvalue()
