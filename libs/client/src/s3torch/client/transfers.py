"""What the transfers of all engines share, and those that are done as soon as they are started."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

from s3torch.client.errors import S3Exception, S3TimeoutError
from s3torch.client.listing import ListPage
from s3torch.client.protocols import Body, Lists

__all__ = ["SLOWEST", "DoneTransfer", "KeepsError", "ListsAtOnce", "run_now", "too_slow"]

T = TypeVar("T")


SLOWEST = 256 * 1024
"""Bytes a second: what is slower than this, beyond ``operation_timeout``, is given up."""


def too_slow(message: str) -> S3TimeoutError:
    """Return the error for what was not finished within ``operation_timeout``."""
    return S3TimeoutError(
        message,
        remedy="Raise S3ClientConfig.operation_timeout, or look at the network and the endpoint.",
        is_retryable=True,
    )


class KeepsError:
    """Keeps the error that a transfer has ended with, for as long as it has not been raised.

    The error then holds the frames it went through and all that is in them: the transfer, and memory of any size. If
    the transfer held the error, they would hold each other until Python looks for such circles. So a copy takes its
    place, which has neither frames nor a cause; those are the first one's.
    """

    __slots__ = ("_error",)

    _error: BaseException | None

    def _take_error(self) -> BaseException:
        """Return the error, to be raised; there must be one."""
        error = self._error
        assert error is not None  # noqa: S101  # asked for only where there is one
        try:
            twin = copy.copy(error)
        except Exception:  # noqa: BLE001  # whatever an error of somebody else's does when it is copied
            twin = S3Exception(f"raised before, where this result was first asked for: {error!r}")
        twin.__traceback__ = twin.__cause__ = twin.__context__ = None
        self._error = twin
        return error


class DoneTransfer(KeepsError, Generic[T]):
    """A `Transfer` that has already ended, with a value or an error."""

    __slots__ = ("_value",)

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


class ListsAtOnce:
    """Gives an engine that lists while its caller waits the form in which listings are started."""

    def start_list_page(
        self: Lists,
        bucket: str,
        prefix: str,
        *,
        delimiter: str,
        max_keys: int,
        token: str | None,
        start_after: str | None,
    ) -> DoneTransfer[ListPage]:
        """Ask for one page."""
        return run_now(
            lambda: ListPage.of(
                *self.list_page(
                    bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
                )
            )
        )
