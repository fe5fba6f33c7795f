"""The memory that an upload may hold: a few buffers of one part each."""

from __future__ import annotations

from s3torch.client._memory_pages import advise_huge_pages

__all__ = ["PartBuffers"]


class PartBuffers:
    """At most ``limit`` buffers, allocated when first needed and used again.

    Args:
        limit: Buffers in all.
        huge_pages: Ask the system for huge pages.
    """

    __slots__ = ("_free", "_huge_pages", "_in_use", "_limit")

    def __init__(self, limit: int, *, huge_pages: bool) -> None:
        self._limit = limit
        self._huge_pages = huge_pages
        self._free: list[memoryview] = []
        self._in_use = 0

    def take(self, size: int) -> memoryview | None:
        """Take a buffer of at least ``size`` bytes; None while all are in use."""
        while self._free:
            buffer = self._free.pop()
            if buffer.nbytes >= size:
                self._in_use += 1
                return buffer
        if self._in_use >= self._limit:
            return None
        buffer = memoryview(bytearray(size))
        if self._huge_pages:
            advise_huge_pages(buffer)
        self._in_use += 1
        return buffer

    def give_back(self, buffer: memoryview) -> None:
        """Let a buffer be used again; nothing may read it any more."""
        self._in_use -= 1
        self._free.append(buffer)

    def clear(self) -> None:
        """Let go of all buffers, those in use too: what still reads them keeps their memory."""
        self._free.clear()
        self._in_use = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._in_use} in use, {len(self._free)} free, at most {self._limit}>"
