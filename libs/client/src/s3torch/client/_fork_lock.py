"""A lock that a forked child finds free."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

__all__ = ["ForkLock"]


class ForkLock:
    """A module's lock: a forked child has one of its own, which no thread of its parent holds.

    Call it for the lock: ``with lock():``. It lasts as long as the process.

    Args:
        make: Makes the lock, such as ``threading.Lock``.
    """

    __slots__ = ("_lock", "_make")

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make = make
        self._renew()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew)

    def __call__(self) -> AbstractContextManager[object]:
        """Return the lock of this process."""
        return self._lock

    def _renew(self) -> None:
        self._lock = self._make()
