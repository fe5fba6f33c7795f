"""A server in a process of its own: started, awaited, and ended whatever happens to the starter."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
_OUTPUT_SHOWN = 4000


class ServerError(RuntimeError):
    """A server did not start, or ended when it should not have; the message ends with what it printed."""


class ServerProcess:
    """One child process in a process group of its own, with its output kept.

    The child's standard input is a pipe that this process holds open, see ``_lifeline``. Being in a group of its own it
    gets no Ctrl-C from the terminal: it ends when ``stop`` is called, when this interpreter exits, or when this process
    is gone.

    Args:
        command: The program and its arguments.
        env: The child's whole environment.
        cwd: The child's working directory; this process's own if ``None``.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None) -> None:
        output, name = tempfile.mkstemp(prefix="s3torch-server-", suffix=".log")
        self._output_path = Path(name)
        self._owner = os.getpid()
        windows = sys.platform == "win32"
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=not windows,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            self._output_path.unlink()
            raise
        finally:
            os.close(output)
        self._lock = threading.Lock()
        atexit.register(self.stop)

    def __repr__(self) -> str:
        state = "running" if self.is_running() else "ended"
        return f"<ServerProcess pid={self.pid} {state}>"

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def output(self) -> str:
        """The last of what the child has printed."""
        with contextlib.suppress(FileNotFoundError), self._output_path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_SHOWN))
            return file.read().decode(errors="replace")
        return ""

    def wait_until(self, is_ready: Callable[[], bool], *, what: str, timeout: float) -> None:
        """Poll ``is_ready`` until it answers true.

        Args:
            is_ready: Asked again and again; it must return soon.
            what: Names the server in the error.
            timeout: Seconds to wait in all.

        Raises:
            ServerError: If the child ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            if is_ready():
                return
            if not self.is_running():
                raise ServerError(f"{what} ended with status {self._process.returncode}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{what} was not ready within {timeout:g} s:\n{self.output()}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End the child and its group and wait for it; does nothing the second time or in a forked copy."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            atexit.unregister(self.stop)
            if self._process.poll() is None:
                self._signal(kill=False)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_SECONDS)
            if self._process.poll() is None:
                self._signal(kill=True)
            # Not communicate(): the pipe carries nothing, and a forked copy of us may hold the other side open.
            self._process.wait(_STOP_SECONDS)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._output_path.unlink(missing_ok=True)

    def _signal(self, *, kill: bool) -> None:
        if sys.platform == "win32":
            self._process.kill() if kill else self._process.terminate()
            return
        with contextlib.suppress(ProcessLookupError):
            # The child leads its session, so its pid names its group: workers that it started end with it.
            os.killpg(self._process.pid, signal.SIGKILL if kill else signal.SIGTERM)
