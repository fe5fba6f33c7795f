"""What one process does for all: its result, or its error, is everybody's."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

__all__ = ["ProcessGroup", "do_once"]

T = TypeVar("T")


class ProcessGroup(Protocol):
    """What a Lightning strategy knows of the processes; one that is alone is a group, too."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the first process."""
        ...

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return what process ``src`` has given."""
        ...


def do_once(group: ProcessGroup, action: Callable[[], T]) -> T:
    """Do something in the first process only, and return or raise the same everywhere.

    Args:
        group: The processes; all call this.
        action: What to do.

    Returns:
        The result, in every process.

    Raises:
        Exception: The error, in every process: others would wait for one that has given up.
    """
    result: Any = None
    failure: Exception | None = None
    if group.is_global_zero:
        try:
            result = action()
        except Exception as error:  # noqa: BLE001  # raised below
            failure = error
    received = group.broadcast(_pack(result, failure))
    if not group.is_global_zero:
        result, failure = _unpack(received)
    if failure is not None:
        raise failure
    return cast("T", result)


def _pack(result: Any, failure: Exception | None) -> tuple[Any, bytes | None, str]:
    if failure is None:
        return result, None, ""
    text = f"{type(failure).__name__}: {failure}"
    try:
        pickled = pickle.dumps(failure)
        pickle.loads(pickled)  # noqa: S301  # made in the line above
    except Exception:  # noqa: BLE001  # errors of others may do anything; what it says is left
        return None, None, text
    return None, pickled, text


def _unpack(packed: tuple[Any, bytes | None, str]) -> tuple[Any, Exception | None]:
    result, pickled, text = packed
    if pickled is not None:
        failure: Exception = pickle.loads(pickled)  # noqa: S301  # from the first process of this very job
        return None, failure
    return result, RuntimeError(f"the first process failed: {text}") if text else None
