"""A checkpoint as it was at one moment, for an upload that goes on while training changes the tensors."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, cast

import torch

from s3torch.checkpoint.archive_crc import without_archive_crc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

__all__ = ["Snapshot"]

_GATHERED = 1 << 20  # bytes; smaller writes go together
_HANDED_OUT = 64 << 20  # bytes at most, so that an upload can be given up soon


class Snapshot:
    """What `torch.save` writes for an object, kept in memory.

    The archive costs one copy of each storage, as a clone of the tensors would. Unlike clones it keeps what tensors
    share, and it fixes everything else in the checkpoint at the same moment; what cannot be saved is an error here and
    now, and the upload later has nothing to compute.

    Args:
        obj: The object.
        archive_crc: Whether the archive gets the CRC-32 of its own.
    """

    def __init__(self, obj: object, *, archive_crc: bool = False) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._small = bytearray()
        self.size = 0
        """Bytes of the archive."""
        with nullcontext() if archive_crc else without_archive_crc():
            torch.save(obj, cast("IO[bytes]", self))
        self._end_piece()

    def write(self, data: Buffer) -> int:
        """Take a copy of bytes, as the file that `torch.save` writes to."""
        view = memoryview(data).cast("B")
        if view.nbytes >= _GATHERED:
            self._end_piece()
            self._pieces.append(bytes(view))
        else:
            self._small += view
            if len(self._small) >= _GATHERED:
                self._end_piece()
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Do nothing, as the file that `torch.save` writes to."""

    def take(self) -> Iterator[memoryview]:
        """Hand out the archive's bytes in order, once, and let go of what was handed out."""
        while self._pieces:
            piece = memoryview(self._pieces.popleft())
            for start in range(0, piece.nbytes, _HANDED_OUT):
                yield piece[start : start + _HANDED_OUT]

    def _end_piece(self) -> None:
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()
