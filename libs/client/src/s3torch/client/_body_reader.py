"""Pieces of memory as one file, for what wants to read what it uploads."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from s3torch.client.protocols import Body

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BodyReader"]


class BodyReader(io.RawIOBase):
    """A seekable file over pieces of memory, which are copied only into what is read from it.

    Args:
        body: The pieces.
    """

    def __init__(self, body: Body) -> None:
        self._pieces = [piece for piece in body if piece.nbytes]
        self._starts = [0, *accumulate(piece.nbytes for piece in self._pieces)]
        self._position = 0

    def __len__(self) -> int:
        return self._starts[-1]

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Copy from one or several pieces; fills the buffer unless at the end."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < view.nbytes and self._position < len(self):
            index = bisect_right(self._starts, self._position) - 1
            piece = self._pieces[index][self._position - self._starts[index] :]
            count = min(piece.nbytes, view.nbytes - filled)
            view[filled : filled + count] = piece[:count]
            filled += count
            self._position += count
        return filled
