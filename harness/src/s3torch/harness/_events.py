"""What a child process tells its parent: one line of JSON for each event."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

__all__ = ["EventLines", "EventWriter"]

_Event = TypeVar("_Event")
_PARENT_GONE = 3


class EventLines(Generic[_Event]):
    """Makes events into lines, and lines into events.

    Args:
        kinds: The dataclasses of the events.
        parts: Dataclasses of fields, by the field's name: the field holds one, or a list of them.
    """

    def __init__(self, *kinds: type[_Event], parts: Mapping[str, type[Any]] | None = None) -> None:
        self._kinds = {kind.__name__: kind for kind in kinds}
        self._parts = dict(parts or {})

    def encode(self, event: _Event) -> str:
        """Return an event as one line; JSON keeps every bit of a float.

        Args:
            event: The event.
        """
        return json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n"  # type: ignore[call-overload]  # a dataclass

    def decode(self, line: str) -> _Event:
        """Return the event that `encode` wrote.

        Args:
            line: One line.

        Raises:
            ValueError: It is no event.
        """
        found = json.loads(line)
        try:
            kind = self._kinds[found.pop("event")]
            return kind(**{name: self._revive(name, value) for name, value in found.items()})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not an event: {line!r}") from error

    def _revive(self, name: str, value: Any) -> Any:
        part = self._parts.get(name)
        if part is None:
            return value
        return [part(**each) for each in value] if isinstance(value, list) else part(**value)


class EventWriter(Generic[_Event]):
    """Tells the parent events on standard output, from any thread; what anything else prints goes to standard error.

    Forked copies of the process tell nothing.

    Args:
        encode: Makes an event into a line.
    """

    def __init__(self, encode: Callable[[_Event], str]) -> None:
        self._encode = encode
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __call__(self, event: _Event) -> None:
        if os.getpid() != self._pid:
            return
        with self._lock:
            try:
                self._out.write(self._encode(event))
                self._out.flush()
            except OSError:  # nobody listens any more: no clean-up can matter, and none may hang
                os._exit(_PARENT_GONE)
