"""An engine that kills its own process after so many requests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeVar

from s3torch.harness.conformance.tapping import Asked, EngineTap

__all__ = ["KillingTap"]

T = TypeVar("T")


class KillingTap(EngineTap):
    """Makes engines that end their process by SIGKILL; give it to ``S3ClientConfig(engine=...)``.

    Args:
        inner: The name of the engine that does the work.
        after: How many requests are carried out before; 0 ends it before the first.
    """

    def __init__(self, inner: str, after: int) -> None:
        super().__init__(inner)
        self._after = after
        self._done = 0

    def ask(self, asked: Asked, call: Callable[[], T]) -> T:
        """Carry a request out to its end, and end the process if it was the last."""
        self._count(0)
        answer = super().ask(asked, call)
        wait = getattr(answer, "wait", None)
        if wait is not None:  # a transfer that has only begun
            wait()
        self._count(1)
        return answer

    def _count(self, more: int) -> None:
        self._done += more
        if self._done >= self._after:
            os.kill(os.getpid(), signal.SIGKILL)
