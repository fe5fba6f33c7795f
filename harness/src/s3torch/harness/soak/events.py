"""What the load process tells of itself: one JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from s3torch.harness._events import EventLines
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


Event: TypeAlias = Began | Done | Broken | Rounded | Ended

_LINES = EventLines[Event](Began, Done, Broken, Rounded, Ended, parts={"sample": Sample})
encode = _LINES.encode
decode = _LINES.decode
