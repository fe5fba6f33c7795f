"""Fresh memory for large results: `bytes` filled in place, on huge pages where the platform has them."""

from __future__ import annotations

import ctypes
import io
import mmap
import sys
from collections.abc import Callable

__all__ = ["BytesBuffer", "advise_huge_pages"]

_HUGE_PAGE = 2 * 1024 * 1024
# Below this, page faults are too few to pay for the system call.
_LEAST = 2 * _HUGE_PAGE


class _Memory(io.BytesIO):
    """A `BytesIO` that may be collected together with a view of it, as the frames of an error leave them behind."""

    def close(self) -> None:
        """Close, unless a view is still out; Python 3.13 and later report what the collector's call raises."""
        try:
            super().close()
        except BufferError:
            pass


class BytesBuffer:
    """Memory that is filled through a view and then becomes `bytes` without a copy.

    `io.BytesIO` hands out a writable view of the `bytes` it was made of as long as nobody else holds them, and
    ``getvalue`` returns that same object.
    """

    __slots__ = ("_io", "view")

    def __init__(self, size: int, *, huge_pages: bool = True) -> None:
        # Nobody else may hold the bytes, or the view would be one of a copy.
        self._io = _Memory(_fresh_bytes(size))
        self.view = self._io.getbuffer()
        if huge_pages and size >= _LEAST:
            advise_huge_pages(self.view)

    def take(self) -> bytes:
        """Release the view and return the memory as `bytes`; call once, after the last byte is in place."""
        self.view.release()
        return self._io.getvalue()


def advise_huge_pages(view: memoryview) -> None:
    """Ask for huge pages on the aligned inside of a writable buffer; does nothing where the system has none.

    Page faults on fresh memory cost more than the copy from the socket does; see madvise(2), MADV_HUGEPAGE.
    """
    if _advise is None or view.nbytes < _LEAST or view.readonly:
        return
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    first = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    length = (address + view.nbytes) // _HUGE_PAGE * _HUGE_PAGE - first
    if length > 0:
        # Advice only: a refusal changes nothing but speed.
        _advise(first, length)


def _find_advise() -> Callable[[int, int], object] | None:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advice = ctypes.c_int(mmap.MADV_HUGEPAGE)
    try:
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):  # a C library without it
        return None
    return lambda first, length: madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advice)


_advise = _find_advise()


def _find_fresh_bytes() -> Callable[[int], bytes]:
    """Find what makes `bytes` without filling them with zeros, which would cost as much as the copy from the socket.

    "If v is NULL, the contents of the bytes object are uninitialized" (Python/C API, PyBytes_FromStringAndSize).
    """
    if sys.implementation.name != "cpython":
        return bytes
    make = ctypes.pythonapi.PyBytes_FromStringAndSize
    make.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
    make.restype = ctypes.py_object
    return lambda size: make(None, size)


_fresh_bytes = _find_fresh_bytes()
