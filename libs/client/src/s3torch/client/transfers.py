"""Transfers that are done as soon as they are started: what engines without a loop return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Body

__all__ = ["DoneTransfer", "raised_before", "run_now"]

T = TypeVar("T")


def raised_before() -> S3Exception:
    """Return what a transfer keeps in place of the error that it has raised.

    The error itself holds the frames it went through and all that is in them: the transfer, and memory of any size. If
    the transfer held the error, they would hold each other until Python looks for such circles.
    """
    return S3Exception("the error of this request was raised before, where its result was first asked for")


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
            raise self._take_error()
        return self._value  # type: ignore[return-value]  # None only where T is None or an error was raised above

    def _take_error(self) -> BaseException:
        error, self._error = self._error, raised_before()
        return error  # type: ignore[return-value]  # asked for only where there is one

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
