"""The process that runs the suites: its events, a deadline for each, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from s3torch.harness._child import ChildProcess
from s3torch.harness._given_module import GIVEN
from s3torch.harness.conform.events import Event, decode

__all__ = ["PytestProcess", "SilenceError"]

# Its own import of torch, from a cold disk, and the start of a server.
_START_SECONDS = 300.0
_END_SECONDS = 30.0
_AGAIN_SECONDS = 2.0
# The settings of the project at hand are about its own tests, not about these.
_INI = "[pytest]\nconsider_namespace_packages = true\n"
_FOREIGN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


class SilenceError(RuntimeError):
    """The process has told nothing for too long."""


class PytestProcess(ChildProcess):
    """A pytest of its own on the suites; a context manager that lets it clean up and end.

    Args:
        arguments: Options of pytest.
        done: Ids of the cases to leave out.
        timeout: Seconds that a case may take.
    """

    # Code under test may have started anything.
    _kills_group = True

    def __init__(self, arguments: Sequence[str], done: Sequence[str], timeout: float) -> None:
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="s3torch-conform-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        (folder / "pytest.ini").write_text(_INI, encoding="utf-8")
        (folder / "done").write_text("\n".join(done), encoding="utf-8")
        plugins = ["-p", "s3torch.harness.plugin", "-p", "s3torch.harness.conform.reporting"]
        quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "--noconftest", "--import-mode=importlib"]
        place = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "--conform-done", str(folder / "done")]
        stacks = ["-o", f"faulthandler_timeout={max(1.0, 0.9 * timeout)}"]
        env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        try:
            super().__init__(
                [sys.executable, "-m", "pytest", "--pyargs", GIVEN, *plugins, *quiet, *place, *stacks, *arguments],
                {**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
                has_lifeline=True,
            )
        except BaseException:
            self._folder.cleanup()
            raise

    def events(self) -> Iterator[Event]:
        """Yield what the process tells, until it ends.

        Raises:
            SilenceError: It has told nothing for too long, and is still there.
        """
        patience = max(self._timeout, _START_SECONDS)
        while True:
            try:
                line = self._next_line(patience)
            except TimeoutError:
                raise SilenceError(f"no answer within {patience:g} s") from None
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
            return self._status(_END_SECONDS)
        except TimeoutError:
            raise SilenceError(f"no end within {_END_SECONDS:g} s") from None

    def close(self) -> None:
        """End the process and its group, if it has not ended; does nothing the second time.

        It may remove buckets and end servers first, also when a law hangs: Ctrl-C ends most waits.
        """
        if self._errors.closed:
            return
        deadline = time.monotonic() + _END_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline and sys.platform != "win32":
            # Again and again, since code under test may swallow it.
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_AGAIN_SECONDS)
        super().close()
        self._folder.cleanup()
