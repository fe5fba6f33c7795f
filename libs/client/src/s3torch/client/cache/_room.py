"""How much a cache holds, what it lets in, and what has to go: one process's part in it, and what all know together."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

from s3torch.client.cache._folder import Folder
from s3torch.client.cache._ledger import COUNTS, Ledger, Page
from s3torch.client.config import CacheConfig

__all__ = ["ADMITTED", "Room"]

_MIB = 1024 * 1024
ADMITTED = 1 / 16
"""Of the new entries, when the cache is full of what is still in use."""
_SAMPLE = 64  # entries among which the least recently used go
_FLUSH_BYTES = _MIB
_FLUSH_S = 1.0
_RECOUNT_S = 3600.0
_LAST_S = 1.0
_PAUSE_S = 60.0  # without writing, after it failed


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


class Room:
    """The room that a cache has.

    Args:
        config: The bounds.
        folder: The files.
        clock: Seconds since the epoch.
        chance: Of what is new, which share is let in when the cache is full of what is in use.
        precision_s: How precise the times of last use are.
    """

    def __init__(
        self, config: CacheConfig, folder: Folder, *, clock: Callable[[], float], chance: float, precision_s: float
    ) -> None:
        self._config = config
        self._folder = folder
        self._clock = clock
        self._chance = chance
        self._precision_s = precision_s
        self._ledger = Ledger(folder.root / "ledger")
        self._flush_bytes = max(1, min(_FLUSH_BYTES, config.max_bytes // 64))
        self._process = _Process()

    def counts(self) -> Mapping[str, int]:
        """Return what this process has counted."""
        return self._here().counts

    def shared_counts(self) -> Mapping[str, int]:
        """Return what all processes have counted, as far as they have told."""
        self.tell()
        return dict(zip(COUNTS, self._ledger.read().counts, strict=True))

    def count(self, **counts: int) -> None:
        """Add to the counts, and now and then tell the other processes."""
        process = self._here()
        with process.lock:
            for name, number in counts.items():
                process.counts[name] += number
                process.untold[name] += number
            used = process.used
        if abs(used) >= self._flush_bytes or self._clock() - process.told_at >= _FLUSH_S:
            self.tell()

    def note(self, *, used: int = 0, demand: int = 0) -> None:
        """Add bytes of disk that came in, less those that went, and bytes that the store has sent."""
        process = self._here()
        with process.lock:
            process.used += used
            process.demand += demand

    def admits(self, size: int) -> bool:
        """Say whether there is room for so many bytes; makes some now and then.

        Epochs come by the same objects again and again. Were the least recently used always to go, a data set larger
        than the cache would find nothing of itself there: each object goes just before its turn. So only a share of
        what is new is let in while all that is there is in use ("Adaptive insertion policies for high performance
        caching", Qureshi et al., 2007: bimodal insertion).
        """
        process = self._here()
        if size > self._config.max_bytes or process.paused_until > self._clock():
            return False
        if process.page.used < 0:
            self.tell()
        if self._room() >= size:
            return True
        if process.page.used + process.used <= self._config.max_bytes and process.random.random() >= self._chance:
            return False
        self.tell()  # others may have made room
        if self._clock() - process.page.counted_at >= _RECOUNT_S:
            self._recount()
        if (lacking := size - self._room()) > 0:
            self._evict(lacking)
        return self._room() >= size

    def pause(self, error: OSError) -> None:
        """Write nothing for a while, since it failed; say so once."""
        process = self._here()
        process.paused_until = self._clock() + _PAUSE_S
        if not process.has_warned:
            process.has_warned = True
            warnings.warn(
                f"nothing is added to the cache in {self._config.directory} for now ({error.strerror}); "
                "objects are read from the store",
                RuntimeWarning,
                stacklevel=2,
            )

    def tell_all(self) -> None:
        """Add what this process has done to the ledger, as its last word; wait a little while others write there."""
        until = time.monotonic() + _LAST_S
        while not self.tell() and time.monotonic() < until:
            time.sleep(_LAST_S / 500)

    def tell(self) -> bool:
        """Add what this process has done to the ledger; return False if another process is writing there."""
        process = self._here()
        process.told_at = self._clock()
        with contextlib.suppress(OSError), self._ledger.writing() as writing:
            if writing is None:
                process.page = self._ledger.read()
                return False
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
        return True

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            self._process = _Process()
        return self._process

    def _room(self) -> int:
        process = self._here()
        within = self._config.max_bytes - max(0, process.page.used) - process.used
        return min(within, self._folder.free() - self._config.min_free_bytes)

    def _evict(self, size: int) -> None:
        """Remove the least recently used of a sample, and all of it that is stale."""
        process = self._here()
        evicted = went = 0
        sample = sorted(self._folder.sample(_SAMPLE, process.random), key=lambda used: used.used_at)
        for used in sample:
            if went >= size and used.used_at >= process.page.last_mark - self._precision_s:
                break
            if removed := self._folder.remove(used.path):
                went += removed
                evicted += 1
        with process.lock:
            process.used -= went
        self.count(evicted=evicted)

    def _recount(self) -> None:
        """Count the bytes of all entries: processes that were killed have not told theirs."""
        process = self._here()
        with contextlib.suppress(OSError), self._ledger.writing() as writing:
            if writing is None or self._clock() - writing.page.counted_at < _RECOUNT_S:
                return
            page = replace(writing.page, used=self._folder.measure(), counted_at=self._clock())
            writing.write(page)
            process.page, process.used = page, 0
