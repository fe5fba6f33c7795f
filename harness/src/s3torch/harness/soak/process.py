"""The parent's side of the load process: its events, a deadline for each, its stacks if it hangs, and its end."""

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

from s3torch.harness.soak.events import Event, decode
from s3torch.harness.soak.settings import Job

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["HangError", "LoadError", "LoadProcess"]

_POLL_SECONDS = 0.2
# A first import of torch from a cold disk takes most of a minute.
_START_SECONDS = 180.0
_END_SECONDS = 10.0
_STACK_SECONDS = 1.0
_SHOWN = 8000


class LoadError(RuntimeError):
    """The load process ended before its time; the message ends with what it printed."""


class HangError(LoadError):
    """The load process was silent for too long; the message ends with the stacks of its threads."""


class LoadProcess:
    """The load in a process of its own, in a group of its own; a context manager that leaves none of it behind.

    Args:
        job: What it does.
        env: Its environment.
        silence: Seconds without an event that are a hang.
    """

    def __init__(self, job: Job, env: Mapping[str, str], silence: float) -> None:
        self._silence = silence
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "s3torch.harness.soak.worker", job.to_json()],
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
        self._reader = threading.Thread(target=self._read, name="soak-events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def events(self) -> Iterator[Event | None]:
        """Yield what it tells until it ends, and None now and then while it tells nothing.

        Raises:
            HangError: It was silent for too long.
            LoadError: It ended with an error.
        """
        heard, patience = time.monotonic(), max(self._silence, _START_SECONDS)
        while True:
            # In short steps, because on Windows Ctrl-C does not end a wait for a lock.
            try:
                line = self._lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() - heard > patience:
                    raise HangError(f"nothing for {patience:g} s\n{self._stacks()}") from None
                yield None
                continue
            if line is None:
                break
            heard, patience = time.monotonic(), self._silence
            yield decode(line)
        if status := self._process.wait(_END_SECONDS):
            raise LoadError(f"the load process ended with status {status}:\n{self._last_words()}")

    def close(self) -> None:
        """End it and its group; does nothing the second time."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_END_SECONDS)
        if sys.platform != "win32":
            # Not SIGKILL: multiprocessing's resource tracker is among them, and cleans up.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)
        self._reader.join(_END_SECONDS)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _stacks(self) -> str:
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)
            time.sleep(_STACK_SECONDS)
        return self._last_words()

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _SHOWN))
        return self._errors.read().decode(errors="replace").strip() or "(it said nothing)"
