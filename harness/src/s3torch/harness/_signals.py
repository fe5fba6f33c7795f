"""Signals that end a command."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["INTERRUPTED", "TERMINATED", "clean_up_on_sigterm"]

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, by the shells' convention."""
TERMINATED = 143
"""Exit status after SIGTERM, by the same."""


@contextlib.contextmanager
def clean_up_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program by way of all clean-up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def leave(_number: int, _frame: object) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
