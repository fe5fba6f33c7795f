"""What the process that runs the suites tells the one that shows: one line of JSON for each event."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TypeAlias

from s3torch.harness._events import EventLines

__all__ = ["Case", "Collected", "Ended", "Event", "Started", "Stopped", "decode", "encode"]

# Opens every line, so that nothing that the code under test prints is taken for an event.
_MARK = "\x1es3torch-conform "


@dataclass(frozen=True, slots=True)
class Case:
    """One test: a law, or one of the cases it is held to."""

    id: str
    """Names it among all."""
    subject: str
    """What is put to the test."""
    law: str
    """The law's name."""
    sentence: str
    """What the law says."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What will be run."""

    cases: list[Case] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Started:
    """A case begins."""

    id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A case has ended."""

    id: str
    verdict: str
    """``held``, ``broken`` or ``skipped``."""
    reason: str = ""
    """Why, in a line."""
    details: str = ""
    """The whole report of a failure."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run cannot go on."""

    reason: str


Event: TypeAlias = Collected | Started | Ended | Stopped

_LINES = EventLines[Event](Collected, Started, Ended, Stopped, parts={"cases": Case})


def encode(event: Event) -> str:
    """Return an event as a line."""
    return _MARK + _LINES.encode(event)


def decode(line: str) -> Event | None:
    """Return what `encode` made into a line; None where the line is something else, or was cut short."""
    _, mark, text = line.partition(_MARK)
    if mark:
        with contextlib.suppress(ValueError):  # the process ended while it wrote
            return _LINES.decode(text)
    return None
