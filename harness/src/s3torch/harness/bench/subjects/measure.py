"""Time, processor time and memory of this process, from the kernel's own books."""

from __future__ import annotations

import gc
import math
import sys
import time
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3torch.harness.bench.subjects.memory import touch
from s3torch.harness.bench.subjects.task import Subject

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    seconds: float
    """Wall time."""
    cpu: float
    """User and system time of the process, its threads and its ended children, in seconds."""
    peak: int
    """Highest resident memory during the run, in bytes; since the start where the kernel cannot say. With what worker
    processes have taken beyond what they had when they began."""
    count: int
    """Objects delivered to the sink."""
    size: int
    """Bytes delivered to the sink or returned."""
    crc: int
    """CRC-32 of all bytes, in order; 0 for a run that only counts."""
    first: float | None = None
    """Seconds to the first delivery to the sink; None where there is none, as in the next two."""
    p50: float | None = None
    """Median of the seconds that the consumer waits for a delivery, an object or a batch."""
    p99: float | None = None
    """The same, of which 1 % are longer."""


def cpu_seconds() -> float:
    """Return the processor time that this process and its ended children have used."""
    if sys.platform == "win32":
        return time.process_time()
    import resource

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def resident_bytes() -> int:
    """Return the memory that is resident now; the peak so far where the kernel cannot say."""
    return _status("VmRSS") or _peak_since_start()


def peak_bytes() -> int:
    """Return the highest resident memory since ``reset_peak``."""
    return _status("VmHWM") or _peak_since_start()


def reset_peak() -> None:
    """Let the peak start at what is resident now, where the kernel can (Linux: proc_pid_clear_refs(5))."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return


def _status(name: str) -> int:
    try:
        text = _STATUS.read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * _KIB
    return 0


def _peak_since_start() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB


def percentile(values: Sequence[float], part: float) -> float | None:
    """Return the smallest of the values that ``part`` of them do not exceed (nearest rank); None of no values.

    Args:
        values: In any order.
        part: Above 0, up to 1.
    """
    if not values:
        return None
    return sorted(values)[math.ceil(part * len(values)) - 1]


class CountingSink:
    """Counts what it is given, and how long the consumer has waited for it.

    Args:
        check: Also checksum it, which costs about as much as receiving it.
        spend: Seconds of pure Python to spend on each object, as a consumer would who decodes it.
    """

    def __init__(self, *, check: bool, spend: float = 0.0) -> None:
        self.count = 0
        self.size = 0
        self.crc = 0
        self.waits = array("d")
        """Seconds before each delivery, since the consumer was done with the one before."""
        self._check = check
        self._spend = spend
        self._since = time.perf_counter()

    def start(self) -> None:
        """Begin to wait for the first delivery."""
        self._since = time.perf_counter()

    def __call__(self, data: Any) -> None:
        """Take one object, or one batch of them."""
        self.waits.append(time.perf_counter() - self._since)
        self.count += 1
        self.size += len(data)
        if self._check:
            self.crc = zlib.crc32(data, self.crc)
        if self._spend:
            spend_python(self._spend)
        self._since = time.perf_counter()


def spend_python(seconds: float) -> None:
    """Run pure Python for so much processor time of this thread.

    Processor time and not wall time: waiting for the GIL behind another thread is no work done.
    """
    clock = time.thread_time
    until = clock() + seconds
    number = 0
    while clock() < until:
        number += 1


def measure(subject: Subject, *, check: bool, spend: float) -> Run:
    """Run the subject once.

    Args:
        subject: What to run.
        check: Checksum what the sink gets, within the measured time: for a run whose time nobody uses. What the run
            returns is checksummed in any case, after it.
        spend: Seconds of pure Python spent on each object that the sink gets.
    """
    sink = CountingSink(check=check, spend=spend)
    gc.collect()
    for memory in subject.state():
        touch(memory)
    reset_peak()
    cpu = cpu_seconds()
    start = time.perf_counter()
    sink.start()
    outcome = subject.run(sink)
    seconds = time.perf_counter() - start
    cpu = cpu_seconds() - cpu
    peak = peak_bytes() + (subject.workers_peak() if subject.workers_peak else 0)
    if subject.own_time:
        seconds, cpu = subject.own_time(outcome)
    crc, size = sink.crc, sink.size
    for part in subject.parts(outcome):
        crc = zlib.crc32(part, crc)
        size += memoryview(part).nbytes
    waits = sink.waits
    return Run(
        seconds=seconds,
        cpu=cpu,
        peak=peak,
        count=sink.count,
        size=size,
        crc=crc,
        first=waits[0] if waits else None,
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
    )
