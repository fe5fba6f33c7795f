"""Transfers that are done as soon as they are started: what engines without a loop return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from s3torch.client.protocols import Body

__all__ = ["DoneTransfer", "run_now"]

T = TypeVar("T")


class DoneTransfer(Generic[T]):
    """A `Transfer` that has already ended, with a value or an error."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def done(self) -> bool:
        """Return True."""
        return True

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Return at once."""

    def advance(self, seconds: float = 0.0) -> None:
        """Return at once."""

    def result(self) -> T:
        """Return the value or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # None only where T is None or an error was raised above

    def cancel(self) -> None:
        """Return at once: it is done."""

    def rebase(self, body: Body) -> None:
        """Return at once: it is done."""


def run_now(call: Callable[[], T]) -> DoneTransfer[T]:
    """Run ``call`` and keep its value or its error."""
    try:
        return DoneTransfer(call())
    except Exception as error:  # noqa: BLE001  # kept, and raised by result()
        return DoneTransfer(error=error)
