"""What the load process tells of itself: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from s3torch.harness.soak.watching import Sample

__all__ = ["Began", "Broken", "Done", "Ended", "Event", "Rounded", "decode", "encode"]


@dataclass(frozen=True, slots=True)
class Began:
    """Everything is in its place, and the first round begins."""


@dataclass(frozen=True, slots=True)
class Done:
    """An activity has ended."""

    activity: str
    """Its name."""
    size: int
    """Bytes that it has compared."""
    seconds: float
    """How long it took."""
    error: str = ""
    """The client's error that it ended with, where it did."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Something happened that must not: wrong bytes, or an error of another kind."""

    activity: str
    """Where."""
    message: str
    """What."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A round has ended, and nothing runs."""

    number: int
    """Its number, from 1."""
    sample: Sample
    """What the process held then."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The time is over, and all clients are closed."""

    rounds: int
    """How many there were."""


Event = Began | Done | Broken | Rounded | Ended
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in (Began, Done, Broken, Rounded, Ended)}


def encode(event: Event) -> str:
    """Return an event as one line.

    Args:
        event: The event.
    """
    return json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n"


def decode(line: str) -> Event:
    """Return the event of a line.

    Args:
        line: What `encode` wrote.
    """
    found = json.loads(line)
    kind = _KINDS[found.pop("event")]
    if kind is Rounded:
        found["sample"] = Sample(**found["sample"])
    return kind(**found)
