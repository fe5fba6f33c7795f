"""A child process that tells what it does: its lines, a deadline for each, and its end."""

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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["ChildProcess"]

_POLL_SECONDS = 0.2
_END_SECONDS = 10.0
# How long lines of a child that has ended may still be on their way.
_LINGER_SECONDS = 2.0


class ChildProcess:
    """A child that writes lines; a context manager that leaves no process behind.

    The child and what it starts are a process group of their own: Ctrl-C in the terminal reaches the parent alone,
    which ends them.

    Args:
        command: The program and its arguments.
        env: Its whole environment.
        has_lifeline: Whether its standard input is a pipe that ends with this process, instead of nothing.
    """

    # If not, multiprocessing's resource tracker, where it is in the group, cleans up after the child.
    _kills_group: ClassVar[bool] = False

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, has_lifeline: bool = False) -> None:
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE if has_lifeline else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=dict(env),
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._errors.close()
            raise
        # Reads what the child says, so that waiting for it has a deadline on every platform.
        self._reader = threading.Thread(target=self._read, name="child-lines", daemon=True)
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

    def close(self) -> None:
        """End the child and its group, if it has not ended; does nothing the second time."""
        if self._errors.closed:
            return
        self._end()
        # The child's own workers hold the pipe's other end, if only for a moment longer.
        self._reader.join(_END_SECONDS)
        for pipe in (self._process.stdin, None if self._reader.is_alive() else self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()

    def said(self, most: int | None = None) -> str:
        """Return what it wrote to its standard error.

        Args:
            most: No more than so many bytes, the last; None for all.
        """
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(0 if most is None else max(0, size - most))
        return self._errors.read().decode(errors="replace").strip()

    def _next_line(self, seconds: float) -> str | None:
        """Return the next line that it writes; None once it has ended and its lines are read.

        Raises:
            TimeoutError: There was none in this time.
        """
        deadline = time.monotonic() + seconds
        while True:
            # In short steps, because on Windows Ctrl-C does not end a wait for a lock.
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(_POLL_SECONDS, seconds))
            if self._process.poll() is not None:
                # What it has started may hold the other end of the pipe for longer.
                with contextlib.suppress(queue.Empty):
                    return self._lines.get(timeout=_LINGER_SECONDS)
                return None
            if time.monotonic() > deadline:
                raise TimeoutError(f"no line within {seconds:g} s")

    def _status(self, seconds: float) -> int:
        """Return its exit status, waiting for it; negative for a signal.

        Raises:
            TimeoutError: It has not ended in this time.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no end within {seconds:g} s") from None

    def _end(self) -> None:
        """Kill the child, and end what it has started; where there are no groups that ends by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_END_SECONDS)
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL if self._kills_group else signal.SIGTERM)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)
