"""When to try again, and how long to wait: pure policy, with its randomness handed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RetryBudget", "RetryPolicy"]


class RetryBudget:
    """What a client may spend on retries, refilled by successes, so that a failing store is not stormed.

    The scheme and its figures are those of the AWS SDKs' standard retry mode ("AWS SDKs and Tools Reference Guide,
    Retry behavior").

    Args:
        capacity: Tokens at the start, and at most.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, capacity: int = 500) -> None:
        self._capacity = capacity
        self._tokens = float(capacity)

    @property
    def tokens(self) -> float:
        """What is left."""
        return self._tokens

    def take(self, cost: float = 5) -> bool:
        """Pay for a retry; False if too little is left."""
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def refund(self, amount: float = 1) -> None:
        """Put something back: a request has succeeded."""
        if self._tokens < self._capacity:
            self._tokens = min(float(self._capacity), self._tokens + amount)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Capped exponential backoff with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog)."""

    max_attempts: int = 10
    """Attempts in all."""
    base_s: float = 0.05
    """Longest wait before the second attempt."""
    cap_s: float = 5.0
    """Longest wait of all."""
    throttled_base_s: float = 0.5
    """Longest wait before the second attempt where the store asked to slow down."""
    throttled_cap_s: float = 20.0
    """Longest wait of all where the store asked to slow down."""
    uniform: Callable[[float, float], float] = random.uniform
    """Source of jitter."""

    def delay(self, attempt: int, *, is_throttled: bool = False, retry_after_s: float | None = None) -> float | None:
        """Return how long to wait before the next attempt, or None to give up.

        Args:
            attempt: How many attempts were made.
            is_throttled: Whether the store asked to slow down.
            retry_after_s: What the store said to wait, where it did (RFC 9110, section 10.2.3).

        Returns:
            Seconds to wait.
        """
        if attempt >= self.max_attempts:
            return None
        base, cap = (self.throttled_base_s, self.throttled_cap_s) if is_throttled else (self.base_s, self.cap_s)
        delay = self.uniform(0, min(cap, base * 2 ** min(attempt - 1, 30)))
        return delay if retry_after_s is None else max(delay, min(retry_after_s, self.throttled_cap_s))
