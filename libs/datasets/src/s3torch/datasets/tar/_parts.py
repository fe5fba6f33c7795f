"""A stream that arrives in parts, taken in pieces of any size: views where a piece lies in one part."""

from __future__ import annotations

import io
from collections.abc import Callable

from s3torch.datasets.tar._header import TarFormatError

__all__ = ["Parts"]


class Parts:
    """What is left of an archive, from some byte on.

    Args:
        next_part: Gives the next bytes, waiting for them; None after the last.
        offset: Byte of the archive with which the first part begins.
        size: Tells the archive's size in bytes, once the first part is there.
    """

    __slots__ = ("_at", "_base", "_next_part", "_size", "_view")

    def __init__(self, next_part: Callable[[], memoryview | None], offset: int, size: Callable[[], int]) -> None:
        self._next_part = next_part
        self._size = size
        self._view = memoryview(b"")
        self._base = offset
        self._at = 0

    @property
    def offset(self) -> int:
        """Byte of the archive that comes next."""
        return self._base + self._at

    def at_end(self) -> bool:
        """Whether nothing is left; waits for the next part if there is one."""
        return self._at == len(self._view) and not self._draw()

    def take(self, count: int, what: str) -> memoryview | bytes:
        """Return the next bytes.

        Args:
            count: How many.
            what: What they are, for the error.

        Returns:
            A view of a part, or, where they span several, bytes of their own.

        Raises:
            TarFormatError: The archive ends before.
        """
        start = self._at
        end = start + count
        if end <= len(self._view):
            self._at = end
            return self._view[start:end]
        self._check(count, what)
        # Bytes that nobody else holds are filled through the view of the stream that was made of them.
        memory = io.BytesIO(bytes(count))
        with memory.getbuffer() as view:
            filled = 0
            while filled < count:
                if self._at == len(self._view) and not self._draw():
                    raise self._too_short(what)
                piece = self._view[self._at : self._at + count - filled]
                view[filled : filled + len(piece)] = piece
                self._at += len(piece)
                filled += len(piece)
        return memory.getvalue()

    def take_available(self) -> memoryview:
        """Return what has arrived and was not taken."""
        rest = self._view[self._at :]
        self._at = len(self._view)
        return rest

    def skip(self, count: int, what: str) -> None:
        """Leave out the next bytes; arguments and errors are those of `take`."""
        while count > len(self._view) - self._at:
            count -= len(self._view) - self._at
            self._at = len(self._view)
            self._check(count, what)
            if not self._draw():
                raise self._too_short(what)
        self._at += count

    def _check(self, count: int, what: str) -> None:
        """Fail before memory is laid out for, or parts are fetched of, what cannot be there."""
        if len(self._view) and self.offset + count > self._size():
            raise self._too_short(what)

    def _too_short(self, what: str) -> TarFormatError:
        return TarFormatError(self._size(), f"the archive is cut off, in {what},")

    def _draw(self) -> bool:
        part = self._next_part()
        while part is not None and not len(part):
            part = self._next_part()
        if part is None:
            return False
        self._base += len(self._view)
        self._view, self._at = part, 0
        return True
