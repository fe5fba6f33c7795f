"""What happens with an object of which no sample can be made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from s3torch.client import (
    BucketNotFoundError,
    CredentialsError,
    RegionError,
    S3BucketKeyData,
    S3ConnectionError,
    S3TimeoutError,
    ServerError,
    ThrottledError,
)

__all__ = ["SKIPPED", "OnError", "check_on_error", "decide"]

OnError: TypeAlias = Literal["raise", "skip"] | Callable[[S3BucketKeyData, Exception], Any]
"""``"raise"``, ``"skip"``, or a function that is given the object and the error: it returns ``"skip"`` or a sample in
place of the one that failed, or raises."""

# They would meet every other object as well: an epoch without samples is no answer to a store that cannot be reached.
_OF_ALL = (
    BucketNotFoundError,
    CredentialsError,
    RegionError,
    S3ConnectionError,
    S3TimeoutError,
    ServerError,
    ThrottledError,
    MemoryError,
)
_log = logging.getLogger(__name__)


class _Skipped:
    """The type of `SKIPPED`."""

    def __repr__(self) -> str:
        return "SKIPPED"


SKIPPED: Final = _Skipped()
"""Stands for the sample of an object that was skipped."""


def check_on_error(on_error: object) -> None:
    """Hold an option to its form.

    Raises:
        ValueError: It is another string than ``"raise"`` or ``"skip"``.
        TypeError: It is no string and cannot be called.
    """
    if isinstance(on_error, str):
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise', 'skip' or a function, got {on_error!r}")
    elif not callable(on_error):
        raise TypeError(f"on_error must be 'raise', 'skip' or a function, got {type(on_error).__name__}")


def decide(on_error: OnError, item: S3BucketKeyData, error: Exception) -> Any:
    """Do what was asked for with an error that an object has brought.

    Args:
        on_error: What was asked for.
        item: The object.
        error: The error, of the store or of the transform.

    Returns:
        The sample to use, or `SKIPPED`.

    Raises:
        Exception: The error, with the object's name in its notes (Python 3.11 and later), or another of the function's.
    """
    if callable(on_error):
        outcome = on_error(item, error)
        if not (isinstance(outcome, str) and outcome == "skip"):
            return outcome
    elif on_error == "raise" or isinstance(error, _OF_ALL):
        _name(item, error)
        raise error
    _log.debug("skipped %s: %r", _uri(item), error)
    return SKIPPED


def _name(item: S3BucketKeyData, error: Exception) -> None:
    """Name the object in an error of a transform; the store's own do already."""
    uri = _uri(item)
    if hasattr(error, "add_note") and uri not in str(error):
        error.add_note(f"This sample was to be made of {uri}")


def _uri(item: S3BucketKeyData) -> str:
    return f"s3://{item.bucket}/{item.key}"
