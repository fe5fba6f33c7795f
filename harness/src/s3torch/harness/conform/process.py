"""The process that runs the suites: its events, a deadline for each, and its end."""

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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from s3torch.harness._given_module import GIVEN
from s3torch.harness.conform.events import Event, decode

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["PytestProcess", "SilenceError"]

# Its own import of torch, from a cold disk, and the start of a server.
_START_SECONDS = 300.0
_END_SECONDS = 30.0
_AGAIN_SECONDS = 2.0
_POLL_SECONDS = 0.2
# The settings of the project at hand are about its own tests, not about these.
_INI = "[pytest]\nconsider_namespace_packages = true\n"
_FOREIGN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


class SilenceError(RuntimeError):
    """The process has told nothing for too long."""


class PytestProcess:
    """A pytest of its own on the suites; a context manager that leaves no process behind.

    The process and what it starts are a process group of their own: Ctrl-C in the terminal reaches the parent alone,
    which lets it clean up and end.

    Args:
        arguments: Options of pytest.
        done: Ids of the cases to leave out.
        timeout: Seconds that a case may take.
    """

    def __init__(self, arguments: Sequence[str], done: Sequence[str], timeout: float) -> None:
        self._timeout = timeout
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._folder = tempfile.TemporaryDirectory(prefix="s3torch-conform-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        (folder / "pytest.ini").write_text(_INI, encoding="utf-8")
        (folder / "done").write_text("\n".join(done), encoding="utf-8")
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        plugins = ["-p", "s3torch.harness.plugin", "-p", "s3torch.harness.conform.reporting"]
        quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "--noconftest", "--import-mode=importlib"]
        place = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "--conform-done", str(folder / "done")]
        stacks = ["-o", f"faulthandler_timeout={max(1.0, 0.9 * timeout)}"]
        env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "--pyargs", GIVEN, *plugins, *quiet, *place, *stacks, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._errors.close()
            self._folder.cleanup()
            raise
        self._reader = threading.Thread(target=self._read, name="conform-events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(gently=True)

    def events(self) -> Iterator[Event]:
        """Yield what the process tells, until it ends.

        Raises:
            SilenceError: It has told nothing for too long, and is still there.
        """
        patience = max(self._timeout, _START_SECONDS)
        while True:
            line = self._next_line(patience)
            if line is None:
                return
            if (event := decode(line)) is not None:
                yield event
                patience = self._timeout

    def status(self) -> int:
        """Return the exit status, waiting for it; negative for a signal.

        Raises:
            SilenceError: It does not end.
        """
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise SilenceError("the tests have run, and their process does not end") from None

    def said(self) -> str:
        """Return what it wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def close(self, *, gently: bool) -> None:
        """End the process and its group, if it has not ended; does nothing the second time.

        Args:
            gently: Let it remove buckets and end servers, which one that hangs cannot.
        """
        if self._errors.closed:
            return
        deadline = time.monotonic() + (_END_SECONDS if gently else 0)
        while self._process.poll() is None and time.monotonic() < deadline and sys.platform != "win32":
            # Again and again, since code under test may swallow it.
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_AGAIN_SECONDS)
        self._end_group()
        self._reader.join(_END_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout if not self._reader.is_alive() else None):
            if pipe is not None:
                pipe.close()
        self._errors.close()
        self._folder.cleanup()

    def _end_group(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next_line(self, patience: float) -> str | None:
        """Return the next line; None once the process has ended."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                # What the code under test has started may hold the other end of the pipe for longer.
                if self._process.poll() is not None:
                    with contextlib.suppress(queue.Empty):
                        return self._lines.get(timeout=_POLL_SECONDS)
                    return None
            if time.monotonic() > deadline:
                raise SilenceError(f"no answer within {patience:g} s")
