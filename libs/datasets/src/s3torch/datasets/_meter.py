"""Counts what a dataset does: each process in a row of its own of one block of shared memory, without a lock."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from multiprocessing.context import get_spawning_popen
from typing import Any, Protocol

import torch
from torch.utils.data import get_worker_info

from s3torch.client import S3BucketKeyData
from s3torch.client.counts import RequestCounts
from s3torch.datasets._bar import Bar
from s3torch.datasets._shared_memory import allocate_shared
from s3torch.datasets.stats import DatasetStats, ProcessStats, SkippedObject

__all__ = ["Meter", "Session", "WindowCounts"]

_ROWS = 257  # the process that made the dataset, and 256 workers
_ROW_BYTES = 4096
_PID, _OBJECTS, _BYTES, _REQUESTS, _RETRIES, _WAITED_NS, _FLIGHT_SUM, _FLIGHT_COUNT, _PEAK, _SKIPPED, _TEXT = range(11)
_NUMBERS = 16  # 8 bytes each at the start of a row; the rest holds the names of what was skipped
_TEXT_BYTES = _ROW_BYTES - 8 * _NUMBERS
_LONGEST_ERROR = 200
# What is counted reaches the block no more often than this.
_FLUSH_S = 0.05
_FIELD, _RECORD = "\x1f", "\x1e"


class Meter:
    """What a dataset has done, in this process and in those it was handed to.

    It goes to worker processes with the memory it counts in; any other copy, by pickle, counts from zero.

    Args:
        has_bar: Show a bar of progress where the dataset is consumed.
        block: The memory; None makes it.
    """

    def __init__(self, *, has_bar: bool = False, block: torch.Tensor | None = None) -> None:
        self._has_bar = has_bar
        self._block = _make_block() if block is None else block
        array = self._block.numpy()
        self._numbers = array.view("int64").data.cast("B").cast("q")
        self._text = array.data
        self._pid = 0
        self._row = 0
        if block is None:
            self._numbers[_PID] = os.getpid()
        self._enter_process()

    def _enter_process(self) -> None:
        """Start in a process: find a row, and take what was counted before as another's."""
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._seen: RequestCounts | None = None
        self._bar: Bar | None = None
        self._is_home = self._numbers[_PID] == os.getpid()
        self._is_claimed = self._is_home
        self._row = 0
        self._pid = os.getpid()

    def begin(self, engine: object) -> Session:
        """Begin to count one iteration.

        Args:
            engine: Whose requests are the dataset's.

        Returns:
            What counts it; to be closed.
        """
        if self._pid != os.getpid():
            self._enter_process()
        if not self._is_claimed:
            self._row, self._is_claimed = self._claim(), True
        counts: RequestCounts | None = getattr(engine, "counts", None)
        if self._seen is None:
            # A fork has its parent's numbers; in the process that made the dataset all requests are the dataset's.
            self._seen = RequestCounts() if self._is_home or counts is None else _copy(counts)
        if self._has_bar and self._bar is None and _is_shown():
            self._bar = Bar(self._totals)
        session = Session(self, counts)
        self._sessions.add(session)
        return session

    def read(self) -> DatasetStats:
        """Return what was done so far."""
        if self._pid == os.getpid():
            for session in list(self._sessions):
                session.flush()
        processes = [self._process(row) for row in range(_ROWS) if self._is_used(row)]
        flights = sum(self._number(row, _FLIGHT_COUNT) for row in range(_ROWS))
        return DatasetStats(
            objects=sum(each.objects for each in processes),
            bytes=sum(each.bytes for each in processes),
            requests=sum(each.requests for each in processes),
            retries=sum(each.retries for each in processes),
            waited_s=sum((each.waited_s for each in processes), 0.0),
            window_mean=sum(self._number(row, _FLIGHT_SUM) for row in range(_ROWS)) / max(1, flights),
            window_peak=max((each.window_peak for each in processes), default=0),
            skipped=sum(each.skipped for each in processes),
            skipped_objects=tuple(skipped for each in processes for skipped in self._skipped(each.number)),
            processes=tuple(processes),
        )

    def add(self, amounts: dict[int, int], peak: int, counts: RequestCounts | None) -> None:
        """Add to this process's row."""
        first = self._row * _ROW_BYTES // 8
        numbers = self._numbers
        with self._lock:  # of this process's threads alone
            if counts is not None and self._seen is not None:
                seen, now = self._seen, _copy(counts)
                self._seen = now
                amounts[_REQUESTS] = now.requests - seen.requests
                amounts[_RETRIES] = now.retries - seen.retries
                amounts[_BYTES] = now.received - seen.received
            for column, amount in amounts.items():
                if amount:
                    numbers[first + column] += amount
            numbers[first + _PEAK] = max(numbers[first + _PEAK], peak)
        if self._bar is not None:
            self._bar.update()

    def skip(self, item: S3BucketKeyData, error: Exception) -> None:
        """Note an object that was skipped, and its name if there is room."""
        first = self._row * _ROW_BYTES // 8
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        record = _FIELD.join((item.bucket, item.key, text)).encode("utf-8", "replace") + _RECORD.encode()
        with self._lock:
            self._numbers[first + _SKIPPED] += 1
            used = self._numbers[first + _TEXT]
            if used + len(record) <= _TEXT_BYTES:
                start = self._row * _ROW_BYTES + 8 * _NUMBERS + used
                self._text[start : start + len(record)] = record
                self._numbers[first + _TEXT] = used + len(record)

    def end(self, session: Session) -> None:
        """Forget a session that is closed, and with the last one the bar."""
        self._sessions.discard(session)
        if self._bar is not None and not self._sessions:
            self._bar.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        # Torch hands the memory to a process that is being started; to a file it would write the numbers.
        is_starting = get_spawning_popen() is not None
        return _remake, (self._has_bar, self._block if is_starting and self._block.is_shared() else None)

    def _claim(self) -> int:
        """Find a row that no living process uses, from that of the worker's number on."""
        worker = get_worker_info()
        preferred = os.getpid() if worker is None else worker.id
        for step in range(_ROWS - 1):
            row = 1 + (preferred + step) % (_ROWS - 1)
            owner = self._number(row, _PID)
            if owner in (0, os.getpid()) or not _is_running(owner):
                break
        self._numbers[row * _ROW_BYTES // 8 + _PID] = os.getpid()
        return row

    def _number(self, row: int, column: int) -> int:
        return self._numbers[row * _ROW_BYTES // 8 + column]

    def _is_used(self, row: int) -> bool:
        return any(self._number(row, column) for column in (_OBJECTS, _REQUESTS, _SKIPPED))

    def _totals(self) -> tuple[int, int]:
        rows = range(_ROWS)
        return sum(self._number(row, _OBJECTS) for row in rows), sum(self._number(row, _BYTES) for row in rows)

    def _process(self, row: int) -> ProcessStats:
        return ProcessStats(
            number=row,
            pid=self._number(row, _PID),
            objects=self._number(row, _OBJECTS),
            bytes=self._number(row, _BYTES),
            requests=self._number(row, _REQUESTS),
            retries=self._number(row, _RETRIES),
            waited_s=self._number(row, _WAITED_NS) / 1e9,
            window_mean=self._number(row, _FLIGHT_SUM) / max(1, self._number(row, _FLIGHT_COUNT)),
            window_peak=self._number(row, _PEAK),
            skipped=self._number(row, _SKIPPED),
        )

    def _skipped(self, row: int) -> list[SkippedObject]:
        start = row * _ROW_BYTES + 8 * _NUMBERS
        text = bytes(self._text[start : start + self._number(row, _TEXT)]).decode()
        return [SkippedObject(*record.split(_FIELD, 2)) for record in text.split(_RECORD) if record]


class WindowCounts(Protocol):
    """What a window counts of itself."""

    waited_s: float
    """Seconds for which somebody waited for what was in flight."""
    delivered: int
    """How often something was handed out."""
    in_flight_sum: int
    """Requests in flight, summed over those times."""
    in_flight_peak: int
    """Requests in flight at most."""

    def advance(self, seconds: float = 0.0) -> None:
        """Do what can be done now for what is in flight; wait for that at most so many seconds."""
        ...


class Session:
    """Counts one iteration: in plain numbers, which reach the block some times a second.

    Args:
        meter: Where they go.
        counts: The engine's own numbers; None for an engine that has none.
    """

    def __init__(self, meter: Meter, counts: RequestCounts | None) -> None:
        self.window: WindowCounts | None = None
        """The window that feeds the iteration."""
        self._meter = meter
        self._counts = counts
        self._objects = 0
        self._flushed = (0, 0.0, 0, 0)
        self._next_flush = time.monotonic() + _FLUSH_S

    def made(self) -> None:
        """Count one sample."""
        self._objects += 1
        if time.monotonic() >= self._next_flush:
            self.flush()

    def skipped(self, item: S3BucketKeyData, error: Exception) -> None:
        """Count one object that was skipped."""
        self._meter.skip(item, error)

    def flush(self) -> None:
        """Bring what was counted to the block."""
        window = self.window
        now = (
            self._objects,
            0.0 if window is None else window.waited_s,
            0 if window is None else window.in_flight_sum,
            0 if window is None else window.delivered,
        )
        before, self._flushed = self._flushed, now
        amounts = {
            _OBJECTS: now[0] - before[0],
            _WAITED_NS: round(1e9 * now[1]) - round(1e9 * before[1]),
            _FLIGHT_SUM: now[2] - before[2],
            _FLIGHT_COUNT: now[3] - before[3],
        }
        self._meter.add(amounts, 0 if window is None else window.in_flight_peak, self._counts)
        self._next_flush = time.monotonic() + _FLUSH_S

    def close(self) -> None:
        """Bring the last numbers to the block."""
        self.flush()
        self._meter.end(self)


def _remake(has_bar: bool, block: torch.Tensor | None) -> Meter:  # what a pickle calls
    return Meter(has_bar=has_bar, block=block)


def _make_block() -> torch.Tensor:
    size = _ROWS * _ROW_BYTES
    try:
        return allocate_shared(size)
    except RuntimeError:  # a system without room for shared memory: then this process counts for itself
        return torch.zeros(size, dtype=torch.uint8)


def _copy(counts: RequestCounts) -> RequestCounts:
    return RequestCounts(counts.requests, counts.retries, counts.throttled, counts.received)


def _is_shown() -> bool:
    """Whether this process shows the bar: the first worker of the first rank, or that rank where it has no workers."""
    worker = get_worker_info()
    if worker is not None and worker.id != 0:
        return False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
