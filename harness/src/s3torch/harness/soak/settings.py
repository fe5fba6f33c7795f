"""What a soak is asked to do, and what its load process is told."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field

__all__ = ["SERVERS", "Job", "Settings"]

SERVERS = ("moto", "origin")


@dataclass(frozen=True, slots=True)
class Settings:
    """A soak's options.

    Raises:
        ValueError: One is out of its range.
    """

    minutes: float = 10.0
    """How long the load runs."""
    rounds: int = 1
    """So many rounds at least, however long they take."""
    rate: float = 0.05
    """Part of the requests that a fault strikes."""
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(1_000_000))
    """Decides the load and the faults."""
    server: str = "moto"
    """``moto``, or ``origin`` for nginx."""
    workers: int = 2
    """Processes of each DataLoader."""
    only: tuple[str, ...] = ()
    """Only these activities; all where empty."""
    also: tuple[str, ...] = ()
    """More activities as ``module:function``, each called once a round with the place."""
    silence: float = 120.0
    """Seconds that one activity may take before it counts as a hang."""

    def __post_init__(self) -> None:
        """Check all options."""
        if not 0 < self.minutes <= 100_000:
            raise ValueError(f"minutes must be above 0 and at most 100000, got {self.minutes}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if not 0 <= self.rate <= 0.5:
            raise ValueError(f"rate must be 0 to 0.5, got {self.rate}")
        if not 0 <= self.workers <= 16:
            raise ValueError(f"workers must be 0 to 16, got {self.workers}")
        if self.server not in SERVERS:
            raise ValueError(f"server must be {' or '.join(SERVERS)}, got {self.server!r}")
        if not self.silence > 0:
            raise ValueError(f"silence must be above 0, got {self.silence}")


@dataclass(frozen=True, slots=True)
class Job:
    """What the load process is told; travels as JSON."""

    endpoint: str
    """The proxy's URL."""
    region: str
    """The store's region."""
    bucket: str
    """A bucket of its own, which holds nothing."""
    seconds: float
    """No round begins later than this,"""
    rounds: int
    """but for so many."""
    seed: int
    """Decides the load."""
    workers: int
    """Processes of each DataLoader."""
    only: tuple[str, ...]
    """Only these activities; all where empty."""
    also: tuple[str, ...]
    """More activities, as ``module:function``."""

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return what `to_json` wrote."""
        found = json.loads(text)
        return cls(**{**found, "only": tuple(found["only"]), "also": tuple(found["also"])})
