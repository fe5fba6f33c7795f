"""What all processes know together of a cache: bytes used, the counts, and what has not been used for long.

One small file. A process adds to it now and then, under a lock it never waits for: if another process is at it, the
next time is soon enough. Nothing but the bound on the bytes depends on it, and that is counted anew from time to time.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s3torch.client.cache._files import lock, open_private, read_into, write_all

__all__ = ["COUNTS", "Ledger", "Page"]

COUNTS = ("hits", "misses", "bytes_hit", "bytes_stored", "revalidated", "evicted", "bypassed", "damaged")
"""What is counted, in the order of the file."""

_MAGIC = b"s3tledg1"
_FORM = struct.Struct(f"<8sqdqdd{len(COUNTS)}q")


@dataclass(frozen=True, slots=True)
class Page:
    """What the file says."""

    used: int = -1
    """Bytes of disk that the entries take; -1 before they have been counted."""
    counted_at: float = 0.0
    """When they were counted one by one, in seconds since the epoch."""
    demand: int = 0
    """Bytes that were fetched from the store since the last mark."""
    mark: float = 0.0
    """The last mark: a mark is set each time that twice the bound has been fetched."""
    last_mark: float = 0.0
    """The mark before that: what has not been used since then is stale."""
    counts: tuple[int, ...] = (0,) * len(COUNTS)
    """As `COUNTS`."""

    def add(self, used: int, demand: int, counts: Mapping[str, int], *, bound: int, now: float) -> Page:
        """Return the page with what one process adds.

        Args:
            used: Bytes of disk that came in, less those that went.
            demand: Bytes fetched from the store.
            counts: How often what happened.
            bound: Bytes that the cache may hold.
            now: Seconds since the epoch.
        """
        page = replace(
            self,
            used=max(0, self.used + used),
            demand=self.demand + demand,
            counts=tuple(count + counts.get(name, 0) for name, count in zip(COUNTS, self.counts, strict=True)),
        )
        if not page.mark:
            return replace(page, mark=now)
        if page.demand < 2 * bound:
            return page
        return replace(page, demand=0, last_mark=page.mark, mark=now)


class Ledger:
    """The file.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Page:
        """Return what it says; a new page if there is none, or it is damaged."""
        try:
            return _parse(self._path.read_bytes())
        except OSError:
            return Page()

    @contextlib.contextmanager
    def writing(self) -> Iterator[_Writing | None]:
        """Open it for a change; None if another process is changing it just now.

        Raises:
            OSError: It cannot be opened.
        """
        # Opened each time: a lock belongs to the open file, and a forked child would have the same one.
        with open_private(self._path, "r+b") as file, lock(file) as is_ours:
            yield _Writing(file) if is_ours else None


class _Writing:
    """The file, held by this process."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        data = memoryview(bytearray(_FORM.size))
        self.page = _parse(bytes(data[: read_into(file, data, 0)]))

    def write(self, page: Page) -> None:
        """Replace what it says."""
        data = _FORM.pack(_MAGIC, page.used, page.counted_at, page.demand, page.mark, page.last_mark, *page.counts)
        self._file.seek(0)
        write_all(self._file, [memoryview(data)])
        self.page = page


def _parse(data: bytes) -> Page:
    if len(data) != _FORM.size or not data.startswith(_MAGIC):
        return Page()
    _, used, counted_at, demand, mark, last_mark, *counts = _FORM.unpack(data)
    return Page(used, counted_at, demand, mark, last_mark, tuple(counts))
