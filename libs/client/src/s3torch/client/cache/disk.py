"""`DiskCache`: stretches of objects in a local directory, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from s3torch.client.cache._entry import DamagedError, Entry, Version, read_entry, read_stretch
from s3torch.client.cache._folder import Folder
from s3torch.client.cache._room import ADMITTED, Room
from s3torch.client.config import CacheConfig
from s3torch.client.values import GetInfo

__all__ = ["CacheStats", "DiskCache", "Found", "cache_for"]

_TOUCH_S = 60.0  # an entry's time of last use is this precise: a hit is to cost no write


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done."""

    hits: int
    """Requests answered from it."""
    misses: int
    """Requests that went to the store for their bytes."""
    bytes_hit: int
    """Bytes read from it."""
    bytes_stored: int
    """Bytes written to it."""
    revalidated: int
    """Those of the hits for which the store was asked whether the object is still the same."""
    evicted: int
    """Entries removed to make room."""
    bypassed: int
    """Responses that were not stored: the cache was full of what is in use, or could not be written."""
    damaged: int
    """Entries that were not as they had been written; removed, and fetched again."""


class Found:
    """Stretches of one version that hold a range together; keeps their files open, so that none can go meanwhile.

    Args:
        cache: Where they lie.
        info: The range, as a response would tell it.
        pieces: Path, open file, what its trailer says, first and last wanted byte in the object, in order.
    """

    __slots__ = ("_cache", "_pieces", "info")

    def __init__(self, cache: DiskCache, info: GetInfo, pieces: list[tuple[str, io.FileIO, Entry, int, int]]) -> None:
        self._cache = cache
        self._pieces = pieces
        self.info = info

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the range.

        Raises:
            DamagedError: An entry is not as it was written; it has been removed, and the memory may hold anything.
        """
        for path, file, entry, first, last in self._pieces:
            part = view[first - self.info.start : last - self.info.start]
            try:
                read_stretch(file, entry, first - entry.start, part)
            except (DamagedError, OSError) as error:
                self.close()  # Windows removes nothing that is open
                self._cache.drop(path)
                raise DamagedError(str(error)) from error

    def close(self) -> None:
        """Close the files."""
        pieces, self._pieces = self._pieces, []
        for _, file, *_ in pieces:
            file.close()

    def __del__(self) -> None:
        self.close()


class DiskCache:
    """A directory of stretches of objects.

    Safe with any number of threads and processes, and after a crash at any moment: an entry appears complete under its
    name, and is verified when it is read. No lock is held while objects are read or written.

    Args:
        config: Where, and how large.
        clock: Seconds since the epoch.
        chance: Of what is new, which share is let in when the cache is full of what is in use.

    Raises:
        OSError: The directory cannot be made or written.
    """

    def __init__(
        self, config: CacheConfig, *, clock: Callable[[], float] = time.time, chance: float = ADMITTED
    ) -> None:
        self._config = config
        self._clock = clock
        try:
            self._folder = Folder(Path(config.directory))
        except OSError as error:
            message = f"the cache's directory cannot be used ({error.strerror}); choose another"
            raise type(error)(error.errno, message, str(config.directory)) from error
        self._room = Room(config, self._folder, clock=clock, chance=chance, precision_s=_TOUCH_S)

    @property
    def config(self) -> CacheConfig:
        """Where, and how large."""
        return self._config

    def stats(self) -> CacheStats:
        """Return what this process has done."""
        return CacheStats(**self._room.counts())

    def shared_stats(self) -> CacheStats:
        """Return what all processes have done since the directory was made; the last second may be missing."""
        return CacheStats(**self._room.shared_counts())

    def used(self) -> int:
        """Return the bytes of disk that all entries take; looks at each."""
        return self._folder.measure()

    def find(self, version: Version, start: int | None, end: int | None, size: int | None) -> Found | None:
        """Look for a range of a version.

        Args:
            version: The version.
            start: First byte; None is 0, negative counts from the object's end.
            end: Byte after the last, as far as the object has it; None is the object's end.
            size: The object's whole size, if known; entries of another size are none of this object's.

        Returns:
            Where the range lies; None if the cache does not have all of it.
        """
        given_start, has_tried = start, start in (None, 0) and (size is None or end is None or end >= size)
        if has_tried and (found := self._find_in(version, None, start, end, size)):
            return found  # small objects, nearly always, with the first look
        if start is not None and start < 0 and size is not None:
            start = max(0, size + start)
        first = start or 0
        last = end if size is None else size if end is None else min(end, size)
        if last is not None and 0 <= first < last:
            found = self._find_in(version, (first, last), first, last, size)
            if found is None and not has_tried:
                found = self._find_in(version, None, given_start, end, size)
            return found or self._find_covering(version, first, last, size)
        return None if has_tried else self._find_in(version, None, given_start, end, size)

    def store(self, version: Version, info: GetInfo, data: bytes | memoryview) -> None:
        """Keep a range that the store has sent, if there is room; whatever goes wrong, nothing is raised.

        Args:
            version: Whose bytes.
            info: The range, as the response told it.
            data: The bytes.
        """
        view = memoryview(data)
        self._room.note(demand=view.nbytes)
        span = None if info.length == info.size else (info.start, info.start + info.length)
        is_stored = self._write(version, span, info.size, view)
        self._room.count(misses=1, bytes_stored=view.nbytes if is_stored else 0, bypassed=int(not is_stored))

    def remember(self, version: Version, size: int) -> None:
        """Note which version of an object was last seen, for those who ask without naming one."""
        note = memoryview(f"{size} {version.etag}".encode())
        name = replace(version, etag="")
        if self.recall(name) != (version.etag, size):
            self._write(name, None, note.nbytes, note)

    def recall(self, name: Version) -> tuple[str, int] | None:
        """Return entity tag and size of the version of an object that was last seen, if one was.

        Args:
            name: The object, with an empty ETag.
        """
        found = self._find_in(name, None, None, None, None)
        if found is None:
            return None
        note = bytearray(found.info.length)
        try:
            found.read_into(memoryview(note))
        except DamagedError:
            return None
        finally:
            found.close()
        size, _, etag = note.decode().partition(" ")
        return etag, int(size)

    def drop(self, path: str) -> None:
        """Remove an entry that is damaged."""
        self._room.note(used=-self._folder.remove(path))
        self._room.count(damaged=1)

    def note_hit(self, length: int, *, is_revalidated: bool) -> None:
        """Count a request that was answered from here."""
        self._room.count(hits=1, bytes_hit=length, revalidated=int(is_revalidated))

    def close(self) -> None:
        """Tell the other processes what this one has done; the cache can be used again afterwards."""
        self._room.tell_all()

    def _find_in(
        self, version: Version, span: tuple[int, int] | None, start: int | None, end: int | None, size: int | None
    ) -> Found | None:
        """Look for a range in one entry."""
        opened = self._open(version, span)
        if opened is None:
            return None
        path, file, entry = opened
        first = start or 0
        if first < 0:
            first = max(0, entry.size + first)
        last = entry.size if end is None else min(end, entry.size)
        is_empty = start is None and not entry.size
        reaches = entry.start <= first < last <= entry.start + entry.length
        if (size is not None and size != entry.size) or not (is_empty or reaches):
            file.close()
            return None
        info = GetInfo(first, last - first, entry.size, version.etag)
        return Found(self, info, [(path, file, entry, first, last)])

    def _find_covering(self, version: Version, first: int, last: int, size: int | None) -> Found | None:
        """Look for a range in several entries, which may have been cut in another way."""
        plan: list[tuple[tuple[int, int], int, int]] = []
        at = first
        spans = self._folder.spans(version)
        while at < last:
            span = max((span for span in spans if span[0] <= at < span[1]), key=lambda span: span[1], default=None)
            if span is None:
                return None
            plan.append((span, at, min(span[1], last)))
            at = span[1]
        pieces: list[tuple[str, io.FileIO, Entry, int, int]] = []
        found = Found(self, GetInfo(first, last - first, size or 0, version.etag), pieces)
        for span, begin, end in plan:
            opened = self._open(version, span)
            if opened is None:
                return None
            path, file, entry = opened
            pieces.append((path, file, entry, begin, end))
            if (entry.start, entry.start + entry.length) != span or entry.size != (size or entry.size):
                return None
            size = entry.size
        found.info = replace(found.info, size=size or 0)
        return found

    def _open(self, version: Version, span: tuple[int, int] | None) -> tuple[str, io.FileIO, Entry] | None:
        path = self._folder.path(version, span)
        try:
            file = io.FileIO(path)
        except OSError:
            return None
        try:
            status = os.fstat(file.fileno())
            entry = read_entry(file, version, status.st_size)
            now = self._clock()
            if not 0 <= now - status.st_mtime < _TOUCH_S:
                with contextlib.suppress(OSError):
                    os.utime(path, (now, now))
        except (DamagedError, OSError):
            file.close()
            self.drop(path)
            return None
        except BaseException:
            file.close()
            raise
        return path, file, entry

    def _write(self, version: Version, span: tuple[int, int] | None, size: int, data: memoryview) -> bool:
        """Write an entry, if there is room, and say whether it was written."""
        try:
            for may_retry in (True, False):
                try:
                    if not self._room.admits(data.nbytes):
                        return False
                    came = self._folder.write(version, span, size, data, self._clock())
                    break
                except FileNotFoundError:
                    if not may_retry:
                        raise
                    self._folder.prepare()  # somebody has deleted the directory to empty it
        except OSError as error:
            self._room.pause(error)
            return False
        self._room.note(used=came)
        return True


@lru_cache(maxsize=64)
def cache_for(config: CacheConfig) -> DiskCache:
    """Return the cache of a configuration; all clients of a process share it."""
    return DiskCache(config)
