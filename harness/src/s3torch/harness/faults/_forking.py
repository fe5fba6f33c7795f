"""Runs a function in a forked process, for so long and no longer, and takes what it returns."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ended", "end_tree", "end_watched", "fork", "run_for"]

_STACKS_S = 0.5
_END_S = 1.0
_watched: set[int] = set()
_READ = 65536


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    value: Any
    """What it returned, as JSON has it; None where it returned nothing."""
    status: int
    """Its exit status; negative for a signal."""
    is_late: bool
    """Whether it was ended, as its time was up."""
    stacks: str
    """Where its threads were then."""
    seconds: float
    """How long it ran."""


def fork(work: Callable[[], Any]) -> tuple[int, int]:
    """Fork a process in a group of its own; return its id, and a pipe on which its result comes as JSON.

    Args:
        work: Run there; what it returns must be such that JSON knows it, or a dataclass of such.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        with contextlib.suppress(OSError):  # the child does the same, whoever is first
            os.setpgid(pid, pid)
        return pid, reading
    status = 70
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(work(), default=asdict).encode())
        status = 0
    except BaseException as error:  # noqa: BLE001  # nothing of the parent's may run here
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
    finally:
        # Without the interpreter's end: what a fork has inherited must not be cleaned up here.
        os._exit(status)


def end_group(pid: int) -> None:
    """End a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_tree(pid: int, patience: float = 0.0) -> None:
    """End a process that `fork` has started, all that it has started, and the processes that `run_for` waits for there.

    Args:
        pid: The process, whose status nobody has taken yet.
        patience: Seconds that it has to end by itself.
    """
    _await_end(pid, patience)
    # Those are groups of their own, and only the kernel still knows them: on Linux it tells.
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in file.read_text().split():
                end_group(int(child))
    end_group(pid)


def end_watched() -> None:
    """End the processes that `run_for` waits for, at once: from a signal's handler."""
    for pid in list(_watched):
        end_group(pid)


def run_for(seconds: float, work: Callable[[], Any]) -> Ended:
    """Run ``work`` in a forked process, and end that and its children at the latest when the time is up.

    Args:
        seconds: How long it may take.
        work: What to do there.
    """
    with tempfile.TemporaryFile("w+") as stacks:

        def begin() -> Any:
            faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
            # Libraries that log what they raise: it is told once, in the result.
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            return work()

        started = time.monotonic()
        pid, pipe = fork(begin)
        _watched.add(pid)
        told = b""
        is_late = has_ended = False
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(pipe, selectors.EVENT_READ)
                while True:
                    left = started + seconds - time.monotonic()
                    if left <= 0 or not selector.select(left):
                        is_late = True
                        break
                    data = os.read(pipe, _READ)
                    if not data:
                        has_ended = True
                        break
                    told += data
            if is_late:
                os.kill(pid, signal.SIGUSR1)
                time.sleep(_STACKS_S)
        finally:
            end = time.monotonic()
            os.close(pipe)
            if has_ended:
                _await_end(pid, _END_S)
            end_group(pid)
            _, status = os.waitpid(pid, 0)
            _watched.discard(pid)
        stacks.seek(0)
        return Ended(
            json.loads(told) if told and not is_late else None,
            os.waitstatus_to_exitcode(status),
            is_late,
            stacks.read() if is_late else "",
            end - started,
        )


def _await_end(pid: int, seconds: float) -> None:
    """Give a process so long to end by itself, without taking its status."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _has_ended(pid):
        time.sleep(0.002)


def _has_ended(pid: int) -> bool:
    if sys.platform != "linux":  # macOS has no waitid
        import psutil

        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
