"""The parent's side of a child process: its events, a deadline for each, and its end."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from s3torch.harness.demo.events import Event, Failed, decode
from s3torch.harness.demo.settings import Job

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["DemoError", "WorkerProcess"]

# Generous: a first import of torch from a cold disk takes most of a minute.
_SILENCE_SECONDS = 180.0
_POLL_SECONDS = 0.2
_END_SECONDS = 10.0
_SHOWN = 2000


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


class WorkerProcess:
    """A child that does one job; a context manager that leaves no process behind.

    The child and what it starts are a process group of their own: Ctrl-C in the terminal reaches the parent alone,
    which ends them.

    Args:
        job: What it does.
        env: Its environment.
    """

    def __init__(self, job: Job, env: Mapping[str, str]) -> None:
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "s3torch.harness.demo.worker", job.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env=dict(env),
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._errors.close()
            raise
        # Reads what the child says, so that waiting for it has a deadline on every platform.
        self._reader = threading.Thread(target=self._read, name="demo-events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def events(self) -> Iterator[Event]:
        """Yield what the child tells, until it ends.

        Raises:
            DemoError: It failed, or was silent for too long.
        """
        while (line := self._next_line()) is not None:
            event = decode(line)
            if isinstance(event, Failed):
                raise DemoError(event.message)
            yield event
        if status := self._process.wait(_END_SECONDS):
            raise DemoError(f"the child process ended with status {status}:\n{self._last_words()}")

    def kill(self) -> str:
        """End the child at once, as a crash or a lost machine would.

        Returns:
            What was done to it, for the reader.
        """
        self._process.kill()
        self._process.wait(_END_SECONDS)
        self._end_group()
        return "TerminateProcess" if sys.platform == "win32" else "SIGKILL"

    def close(self) -> None:
        """End the child and its group, if it has not ended; does nothing the second time."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_END_SECONDS)
        self._end_group()
        # The child's own workers hold the pipe's other end, if only for a moment longer.
        self._reader.join(_END_SECONDS)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self._errors.close()

    def _end_group(self) -> None:
        """End the DataLoader workers of a child that is gone; where there are no groups they end by themselves."""
        if sys.platform != "win32":
            # Not SIGKILL: multiprocessing's resource tracker is among them, and cleans up after the child.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _next_line(self) -> str | None:
        deadline = time.monotonic() + _SILENCE_SECONDS
        while True:
            # In short steps, because on Windows Ctrl-C does not end a wait for a lock.
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=_POLL_SECONDS)
            if time.monotonic() > deadline:
                raise DemoError(f"the child process was silent for {_SILENCE_SECONDS:g} s:\n{self._last_words()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _SHOWN))
        return self._errors.read().decode(errors="replace").strip() or "(it said nothing)"
