"""A server process's ties to the process that started it: it tells its port, and ends when its starter is gone.

A server is started with a pipe as its standard input. The starter never writes to it: the pipe reaches its end exactly
when the last holder of the other side is gone, however it went (return, exception, SIGKILL). This works on every
platform and, unlike Linux' ``PR_SET_PDEATHSIG``, does not depend on which *thread* of the starter lives on.

Standard library only, because each server process imports it first.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

_STOP_SECONDS = 5.0


def watch(on_end: Callable[[], None]) -> None:
    """Call ``on_end`` from a daemon thread when standard input reaches its end.

    Args:
        on_end: Called once; it may end the process.
    """

    def wait() -> None:
        fd = sys.stdin.fileno()
        while True:
            try:
                if not os.read(fd, 4096):
                    break
            except OSError:
                break
        on_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def announce(port: int, port_file: Path) -> None:
    """Tell the starter that the server listens.

    Args:
        port: The number of its port.
        port_file: Where the starter looks for it; written at once.
    """
    new = port_file.with_suffix(".new")
    new.write_text(str(port), encoding="ascii")
    new.replace(port_file)


def _guard(command: Sequence[str], directory: str) -> int:
    """Run ``command`` until it ends or standard input does; remove ``directory`` and return the exit status."""
    # An exception, so that the clean-up below runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    watch(process.terminate)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    # python -m s3torch.harness.servers._lifeline DIRECTORY COMMAND [ARGUMENT ...]
    sys.exit(_guard(sys.argv[2:], sys.argv[1]))
