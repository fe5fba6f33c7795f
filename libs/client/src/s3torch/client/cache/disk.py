"""`DiskCache`: stretches of objects in a local directory, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from s3torch.client.cache._entry import DamagedError, Entry, Version, read_entry, read_stretch
from s3torch.client.cache._folder import Folder
from s3torch.client.cache._ledger import COUNTS, Ledger, Page
from s3torch.client.config import CacheConfig
from s3torch.client.values import GetInfo

__all__ = ["CacheStats", "DiskCache", "Found", "cache_for"]

_MIB = 1024 * 1024
_TOUCH_S = 60.0  # an entry's time of last use is this precise: a hit is to cost no write
_ADMITTED = 1 / 16  # of the new entries, when the cache is full of what is still in use
_SAMPLE = 64  # entries among which the least recently used go
_FLUSH_BYTES = _MIB
_FLUSH_S = 1.0
_RECOUNT_S = 3600.0
_PAUSE_S = 60.0  # without writing, after it failed


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

    def __init__(self, cache: DiskCache, info: GetInfo, pieces: list[tuple[str, int, Entry, int, int]]) -> None:
        self._cache = cache
        self._pieces = pieces
        self.info = info

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the range.

        Raises:
            DamagedError: An entry is not as it was written; it has been removed, and the memory may hold anything.
        """
        for path, descriptor, entry, first, last in self._pieces:
            part = view[first - self.info.start : last - self.info.start]
            try:
                read_stretch(descriptor, entry, first - entry.start, part)
            except (DamagedError, OSError) as error:
                self._cache.drop(path)
                raise DamagedError(str(error)) from error

    def close(self) -> None:
        """Close the files."""
        pieces, self._pieces = self._pieces, []
        for _, descriptor, *_ in pieces:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class _Process:
    """What one process has done and not yet told: a forked child has done nothing."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(COUNTS, 0)
        self.untold = dict.fromkeys(COUNTS, 0)
        self.used = 0  # bytes of disk, untold
        self.demand = 0  # likewise
        self.told_at = 0.0
        self.page = Page()  # as last seen
        self.random = random.Random()  # it chooses what to evict
        self.paused_until = 0.0
        self.has_warned = False


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
        self, config: CacheConfig, *, clock: Callable[[], float] = time.time, chance: float = _ADMITTED
    ) -> None:
        self._config = config
        self._clock = clock
        self._chance = chance
        try:
            self._folder = Folder(Path(config.directory))
        except OSError as error:
            message = f"the cache's directory cannot be used ({error.strerror}); choose another"
            raise type(error)(error.errno, message, str(config.directory)) from error
        self._ledger = Ledger(self._folder.root / "ledger")
        self._flush_bytes = max(1, min(_FLUSH_BYTES, config.max_bytes // 64))
        self._process = _Process()

    @property
    def config(self) -> CacheConfig:
        """Where, and how large."""
        return self._config

    def stats(self) -> CacheStats:
        """Return what this process has done."""
        return CacheStats(**self._here().counts)

    def shared_stats(self) -> CacheStats:
        """Return what all processes have done since the directory was made; the last second may be missing."""
        self._tell(self._here())
        return CacheStats(**dict(zip(COUNTS, self._ledger.read().counts, strict=True)))

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
        process = self._here()
        view = memoryview(data)
        self.count(process, misses=1)
        process.demand += view.nbytes
        if not self._admits(process, view.nbytes):
            self.count(process, bypassed=1)
            return
        span = None if info.length == info.size else (info.start, info.start + info.length)
        try:
            came = self._folder.write(version, span, info.size, view, self._clock())
        except OSError as error:
            self._pause(process, error)
            self.count(process, bypassed=1)
            return
        with process.lock:
            process.used += came
        self.count(process, bytes_stored=view.nbytes)

    def remember(self, version: Version, size: int) -> None:
        """Note which version of an object was last seen, for those who ask without naming one."""
        note = f"{size} {version.etag}".encode()
        name = replace(version, etag="")
        process = self._here()
        if self.recall(name) == (version.etag, size) or process.paused_until > self._clock():
            return
        try:
            came = self._folder.write(name, None, len(note), memoryview(note), self._clock())
        except OSError as error:
            self._pause(process, error)
            return
        with process.lock:
            process.used += came

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
        process = self._here()
        went = self._folder.remove(path)
        with process.lock:
            process.used -= went
        self.count(process, damaged=1)

    def note_hit(self, length: int, *, is_revalidated: bool) -> None:
        """Count a request that was answered from here."""
        self.count(self._here(), hits=1, bytes_hit=length, revalidated=int(is_revalidated))

    def close(self) -> None:
        """Tell the other processes what this one has done; the cache can be used again afterwards."""
        self._tell(self._here())

    def count(self, process: _Process, **counts: int) -> None:
        """Add to the counts, and now and then tell the other processes."""
        with process.lock:
            for name, number in counts.items():
                process.counts[name] += number
                process.untold[name] += number
            used = process.used
        if abs(used) >= self._flush_bytes or self._clock() - process.told_at >= _FLUSH_S:
            self._tell(process)

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            self._process = _Process()
        return self._process

    def _find_in(
        self, version: Version, span: tuple[int, int] | None, start: int | None, end: int | None, size: int | None
    ) -> Found | None:
        """Look for a range in one entry."""
        opened = self._open(version, span)
        if opened is None:
            return None
        path, descriptor, entry = opened
        first = start or 0
        if first < 0:
            first = max(0, entry.size + first)
        last = entry.size if end is None else min(end, entry.size)
        is_empty = start is None and not entry.size
        reaches = entry.start <= first < last <= entry.start + entry.length
        if (size is not None and size != entry.size) or not (is_empty or reaches):
            os.close(descriptor)
            return None
        info = GetInfo(first, last - first, entry.size, version.etag)
        return Found(self, info, [(path, descriptor, entry, first, last)])

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
        pieces: list[tuple[str, int, Entry, int, int]] = []
        found = Found(self, GetInfo(first, last - first, size or 0, version.etag), pieces)
        for span, begin, end in plan:
            opened = self._open(version, span)
            if opened is None:
                return None
            path, descriptor, entry = opened
            pieces.append((path, descriptor, entry, begin, end))
            if (entry.start, entry.start + entry.length) != span or entry.size != (size or entry.size):
                return None
            size = entry.size
        found.info = replace(found.info, size=size or 0)
        return found

    def _open(self, version: Version, span: tuple[int, int] | None) -> tuple[str, int, Entry] | None:
        path = self._folder.path(version, span)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            entry = read_entry(descriptor, version, status.st_size)
            now = self._clock()
            if not 0 <= now - status.st_mtime < _TOUCH_S:
                with contextlib.suppress(OSError):
                    os.utime(descriptor, (now, now))
        except (DamagedError, OSError):
            os.close(descriptor)
            self.drop(path)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return path, descriptor, entry

    def _admits(self, process: _Process, size: int) -> bool:
        """Say whether there is room for so many bytes; makes some now and then.

        Epochs come by the same objects again and again. Were the least recently used always to go, a data set larger
        than the cache would find nothing of itself there: each object goes just before its turn. So only a share of
        what is new is let in while all that is there is in use ("Adaptive insertion policies for high performance
        caching", Qureshi et al., 2007: bimodal insertion).
        """
        if size > self._config.max_bytes or process.paused_until > self._clock():
            return False
        if process.page.used < 0:
            self._tell(process)
        if self._room(process) >= size:
            return True
        if process.page.used + process.used <= self._config.max_bytes and process.random.random() >= self._chance:
            return False
        self._tell(process)  # others may have made room
        if self._clock() - process.page.counted_at >= _RECOUNT_S:
            self._recount(process)
        if (lacking := size - self._room(process)) > 0:
            self._evict(process, lacking)
        return self._room(process) >= size

    def _room(self, process: _Process) -> int:
        within = self._config.max_bytes - max(0, process.page.used) - process.used
        return min(within, self._folder.free() - self._config.min_free_bytes)

    def _evict(self, process: _Process, size: int) -> None:
        """Remove the least recently used of a sample, and all of it that is stale."""
        evicted = went = 0
        sample = sorted(self._folder.sample(_SAMPLE, process.random), key=lambda used: used.used_at)
        for used in sample:
            if went >= size and used.used_at >= process.page.last_mark - _TOUCH_S:
                break
            if removed := self._folder.remove(used.path):
                went += removed
                evicted += 1
        with process.lock:
            process.used -= went
        self.count(process, evicted=evicted)

    def _tell(self, process: _Process) -> None:
        """Add what this process has done to the ledger; if another process is writing there, next time."""
        process.told_at = self._clock()
        with contextlib.suppress(OSError), self._ledger.writing() as writing:
            if writing is None:
                process.page = self._ledger.read()
                return
            page = writing.page
            with process.lock:
                used, process.used = process.used, 0
                demand, process.demand = process.demand, 0
                counts, process.untold = process.untold, dict.fromkeys(COUNTS, 0)
            if page.used < 0:
                page = replace(page, used=self._folder.measure(), counted_at=self._clock())
                used = 0
            page = page.add(used, demand, counts, bound=self._config.max_bytes, now=self._clock())
            writing.write(page)
            process.page = page

    def _recount(self, process: _Process) -> None:
        """Count the bytes of all entries: processes that were killed have not told theirs."""
        with contextlib.suppress(OSError), self._ledger.writing() as writing:
            if writing is None or self._clock() - writing.page.counted_at < _RECOUNT_S:
                return
            page = replace(writing.page, used=self._folder.measure(), counted_at=self._clock())
            writing.write(page)
            process.page = page

    def _pause(self, process: _Process, error: OSError) -> None:
        process.paused_until = self._clock() + _PAUSE_S
        if not process.has_warned:
            process.has_warned = True
            warnings.warn(
                f"nothing is added to the cache in {self._config.directory} for now ({error.strerror}); "
                "objects are read from the store",
                RuntimeWarning,
                stacklevel=2,
            )


@lru_cache(maxsize=64)
def cache_for(config: CacheConfig) -> DiskCache:
    """Return the cache of a configuration; all clients of a process share it."""
    return DiskCache(config)
