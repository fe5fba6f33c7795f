"""Errors that say what has happened, also where torch has wrapped them."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["find_typed_error"]

E = TypeVar("E", bound=BaseException)


def find_typed_error(error: BaseException, *kinds: type[E]) -> E | None:
    """Return the error of some kinds that an error is or carries, as torch hands those of a checkpoint on.

    Args:
        error: What was raised.
        kinds: The kinds.

    Returns:
        The error, the first rank's where there are several; None where one is of another kind.
    """
    if isinstance(error, kinds):
        return error
    failures = getattr(error, "failures", None)  # of torch's CheckpointException
    if not isinstance(failures, dict) or not failures:
        return None
    found = [find_typed_error(failure[0], *kinds) for failure in failures.values()]
    return None if None in found else found[0]
