"""A bar of progress: objects, and bytes a second, as `tqdm` shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["Bar", "check_bar"]

_PAUSE_S = 0.2


def check_bar() -> None:
    """Make sure that a bar can be shown.

    Raises:
        ImportError: `tqdm` is not installed.
    """
    try:
        import tqdm  # noqa: F401  # to see whether it is there
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 's3torch-datasets[progress]'", name="tqdm") from error


class Bar:
    """Shows what a dataset has done since the bar was made.

    Args:
        read: Returns the objects and the bytes up to now.
    """

    def __init__(self, read: Callable[[], tuple[int, int]]) -> None:
        self._read = read
        self._first = read()
        self._started = self._updated = time.monotonic()
        self._bar: Any = _make()

    def update(self) -> None:
        """Show how far it is, at most some times a second."""
        if time.monotonic() - self._updated >= _PAUSE_S:
            self.refresh()

    def refresh(self) -> None:
        """Show how far it is."""
        self._updated = time.monotonic()
        objects, size = self._read()
        rate = (size - self._first[1]) / max(1e-9, self._updated - self._started) / 1e9
        self._bar.set_postfix_str(f"{rate:.2f} GB/s", refresh=False)
        self._bar.update(objects - self._first[0] - self._bar.n)
        self._bar.refresh()


def _make() -> Any:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # it has no types
        monitor_interval = 0  # no thread that watches it

    return Bar(unit=" objects", unit_scale=True, dynamic_ncols=True)
