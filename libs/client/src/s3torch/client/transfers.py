"""Transfers that are done as soon as they are started: what engines without a loop return."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Body

__all__ = ["DoneTransfer", "run_now", "without_frames"]

T = TypeVar("T")


def without_frames(error: BaseException) -> BaseException:
    """Return a copy of an error that a transfer has raised, for it to keep in the error's place.

    The error itself holds the frames it went through and all that is in them: the transfer, and memory of any size. If
    the transfer held the error, they would hold each other until Python looks for such circles. The copy has neither
    frames nor a cause; those are the first one's.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  # whatever an error of somebody else's does when it is copied
        twin = S3Exception(f"raised before, where this result was first asked for: {error!r}")
    twin.__traceback__ = twin.__cause__ = twin.__context__ = None
    return twin


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
        error = self._error
        assert error is not None  # noqa: S101  # asked for only where there is one
        self._error = without_frames(error)
        return error

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
