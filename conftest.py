"""What holds for every test run, however it was started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let SIGINT arrive where a shell has started the run in the background.

    Such a run ignores SIGINT, its subprocesses inherit that, and those that tests interrupt would never notice.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
