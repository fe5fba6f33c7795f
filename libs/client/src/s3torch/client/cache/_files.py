"""Files as every operating system has them: written, read at a place, locked, measured.

Windows differs in three ways: it has no reading at a place, it neither replaces nor removes a file that somebody has
open, and what it locks nobody else can read.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["disk_size", "is_in_use", "lock", "open_private", "read_into", "write_all"]

_SECTOR = 512  # bytes of a block in st_blocks, by POSIX
_CLUSTER = 4096  # bytes that a file takes a multiple of where the system does not say how many it takes: NTFS' default
# ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION ("System Error Codes", Microsoft).
_IN_USE = (5, 32)
_LOCKED_BYTE = 1 << 30  # behind all that anyone reads


def open_private(path: str | os.PathLike[str], mode: str) -> io.FileIO:
    """Open a file that only its owner may read, and make it if it is not there.

    Args:
        path: Where.
        mode: ``xb`` for a new file, ``r+b`` for one that may be there.

    Raises:
        OSError: It cannot be opened, or made.
    """
    return io.FileIO(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o600))


def read_into(file: io.FileIO, view: memoryview, at: int) -> int:
    """Fill memory from a place in a file; return how many bytes there were.

    Args:
        file: The file; not to be used by another thread at the same time.
        view: The memory, format ``B``, contiguous.
        at: The place, in bytes from the beginning.

    Raises:
        OSError: It cannot be read.
    """
    file.seek(at)
    filled = 0
    while filled < view.nbytes:
        count = file.readinto(view[filled:] if filled else view)
        if not count:
            break
        filled += count
    return filled


def write_all(file: io.FileIO, pieces: Sequence[memoryview]) -> None:
    """Write pieces of memory one after the other.

    Args:
        file: The file, at the place where they go.
        pieces: The memory, format ``B``.

    Raises:
        OSError: They cannot be written, such as for want of space.
    """
    for piece in pieces:
        left = piece
        while left.nbytes:
            left = left[file.write(left) :]


def disk_size(status: os.stat_result) -> int:
    """Return the bytes of disk that a file takes."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return -(-status.st_size // _CLUSTER) * _CLUSTER if blocks is None else blocks * _SECTOR


def is_in_use(error: OSError) -> bool:
    """Say whether a file could not be replaced or removed because somebody has it open, as on Windows."""
    return getattr(error, "winerror", None) in _IN_USE


@contextlib.contextmanager
def lock(file: io.FileIO) -> Iterator[bool]:
    """Hold a file against other processes, and other openings of it in this one; False if one of them holds it.

    Args:
        file: The file, open for writing.

    Raises:
        OSError: The file system has no locks.
    """
    if sys.platform == "win32":
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            yield False
            return
        try:
            yield True
        finally:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # the lock goes with the open file
