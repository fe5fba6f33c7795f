"""What an engine has asked and received so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Counts", "RequestCounts"]


@dataclass(slots=True)
class RequestCounts:
    """Numbers of an engine's requests in this process since it was made.

    Threads add to them without a lock: where several use one engine at the same moment, single counts may be lost.
    """

    requests: int = 0
    """Requests sent, each attempt for one."""
    retries: int = 0
    """Those of them that repeat one that failed."""
    throttled: int = 0
    """Answers by which the store asked for fewer requests."""
    received: int = 0
    """Bytes of objects received and found to be right."""


@runtime_checkable
class Counts(Protocol):
    """Tell what was asked and received. Engines need not; decorators pass on what they wrap."""

    @property
    def counts(self) -> RequestCounts:
        """What this engine has asked and received so far."""
        ...
