"""What a subject is asked to do, and what it answers with: plain values that travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Task:
    """One subject's part in one scenario."""

    endpoint: str
    """URL of the server."""
    bucket: str
    """Bucket of the objects."""
    keys: list[str]
    """Their keys, in the order to read."""
    size: int
    """Length of each object in bytes."""
    region: str = "us-east-1"
    """Region to sign for."""
    ca_bundle: str | None = None
    """File with the certificate authority to trust."""
    window: int = 16
    """Requests in flight at most, where many run at once."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only this subject or scenario knows."""

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Read it back."""
        values = json.loads(line)
        return cls(**{each.name: values[each.name] for each in fields(cls)})


class Sink(Protocol):
    """Where a subject delivers one object after the other, in order."""

    def __call__(self, data: Any) -> None:
        """Take one object's bytes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something ready to be measured: set up, connected, warm enough for the first run."""

    run: Callable[[Sink], Any]
    """The work. What it returns is held until the clock has stopped, then handed to ``parts``."""
    parts: Callable[[Any], Iterable[Any]] = lambda outcome: [] if outcome is None else [outcome]
    """The outcome as byte buffers, to be compared with what was stored."""
    own_time: Callable[[Any], tuple[float, float]] | None = None
    """Takes wall and processor seconds out of the outcome, where the work is measured elsewhere."""
    state: Callable[[], Iterable[Any]] = tuple
    """Memory of which a program would have used each page just before the work, and which is looked through for that,
    as byte buffers: what it saves, or loads into."""
    workers_peak: Callable[[], int] | None = None
    """Bytes that the run's worker processes, now ended, have held beyond what they had when they began."""


def listed(keys: Iterable[str]) -> list[bytes]:
    """Return the names of keys as what a listing delivers, to be compared."""
    return ["".join(f"{key}\n" for key in keys).encode()]
