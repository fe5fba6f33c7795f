"""What goes wrong, and when: frozen values, and a choice that depends on the seed and the order of requests alone."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

__all__ = ["OBJECTS", "REQUESTS", "Fault", "FaultCount", "FaultName", "FaultPlan", "Side", "make_replacement"]

Side = Literal["response", "request"]
"""Which of the two messages a fault strikes."""

FaultName = Literal[
    "refuse",
    "reset",
    "cut",
    "unframed",
    "stall",
    "drip",
    "duplicate",
    "echo",
    "flip",
    "swap",
    "status",
    "expire",
    "region",
    "replace",
    "idle",
]
"""What can go wrong on the way to a server; `Fault` says what each means."""

OBJECTS, REQUESTS = "(objects)", "(requests)"
"""What is counted beside the faults: answers with bytes of an object, and requests."""

_NAMES = get_args(FaultName)
_FOR_EVER_S = 3600.0
# Faults that only a response with a body can show, and those that only an object can.
_NEEDS_BODY = frozenset({"unframed", "drip", "duplicate"})
_NEEDS_OBJECT = frozenset({"flip", "swap", "replace"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one request.

    ===========  ======================================================================================================
    name         what happens
    ===========  ======================================================================================================
    refuse       the connection is reset, and for ``seconds`` nothing accepts new ones (a restart)
    reset        the connection is reset when ``at`` bytes of the body have passed; at -1 before the answer's head
    cut          the connection ends there instead, under TLS without notice
    unframed     the same, and the answer has not told how long it is
    stall        from byte ``at`` on, nothing comes for ``seconds``
    drip         from byte ``at`` on, ``pace`` bytes come in a second
    duplicate    the last bytes of the body come twice
    echo         the whole answer comes twice
    flip         one bit of the byte ``at`` is another
    swap         the answer is that to another range
    status       an error answer: ``status``, ``code``, ``retry_after``; the server is not asked
    expire       the credentials used are no longer accepted from now on: ``status``, ``code``
    region       the bucket is in ``region``: requests signed for others are refused with ``status``
    replace      after the answer the object is replaced by one of the same length and other bytes
    idle         the server ends connections that neither take nor send anything for ``seconds``
    ===========  ======================================================================================================

    With ``side="request"`` the first three, ``stall`` and ``flip`` strike the body that is sent to the server. A server
    that is sent a checksum finds the flipped bit and answers 400 ``BadDigest``; the proxy does that itself. In answers
    ``flip``, ``swap`` and ``replace`` strike objects, and no listings.
    """

    name: FaultName
    """What happens."""
    at: int = 0
    """Byte of the body at which it does; the last one where the body is shorter."""
    seconds: float = _FOR_EVER_S
    """How long it lasts."""
    pace: int = 1024
    """Bytes a second."""
    status: int = 503
    """HTTP status of an error answer."""
    code: str = "SlowDown"
    """S3's code of an error answer."""
    retry_after: float | None = None
    """Seconds that an error answer asks to wait, where it does."""
    region: str = "eu-central-1"
    """Where the bucket is."""
    side: Side = "response"
    """Which message it strikes."""
    methods: tuple[str, ...] = ()
    """Only requests of these HTTP methods; none for all. A GET that lists counts as ``LIST``, and as ``GET``, too."""

    def __post_init__(self) -> None:
        """Check the name, and that the figures are such."""
        if self.name not in _NAMES:
            raise ValueError(f"unknown fault {self.name!r}; there are: {', '.join(_NAMES)}")
        if self.at < -1 or self.seconds < 0 or self.pace < 1:
            raise ValueError(f"at must be -1 or more, seconds 0 or more, pace 1 or more: {self}")

    def suits(self, method: str, size: int) -> bool:
        """Whether it can strike a request.

        Args:
            method: The HTTP method, or ``LIST`` for a GET that lists.
            size: Bytes of the request's body.
        """
        names = {method, "GET"} if method == "LIST" else {method}
        if self.methods and names.isdisjoint(self.methods):
            return False
        if self.side == "request":
            return size > 0
        if self.name in _NEEDS_OBJECT:
            return method == "GET"
        return self.name not in _NEEDS_BODY or method in ("GET", "LIST")


def make_replacement(size: int) -> bytes:
    """Return the bytes that the fault ``replace`` puts in the place of an object.

    Args:
        size: The object's size.
    """
    return random.Random(f"replacement-{size}").randbytes(size)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which requests are struck, and by what.

    Args:
        faults: What may happen; each struck request gets one of those that suit it.
        rate: Part of the requests that are struck, 0 to 1.
        seed: Another one strikes others.
        after: So many of the requests that could be struck pass first.
        most: So many are struck at most; None for no end.
    """

    faults: tuple[Fault, ...] = ()
    rate: float = 1.0
    seed: int = 0
    after: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be 0 to 1, got {self.rate}")

    def choose(self, number: int, struck: int, method: str, size: int = 0) -> Fault | None:
        """Say what happens to a request.

        Args:
            number: Which of the requests that can be struck it is, from 0.
            struck: How many have been struck before.
            method: Its HTTP method, or ``LIST`` for a GET that lists.
            size: Bytes of its body.

        Returns:
            The fault, or None where it passes.
        """
        suitable = self.suitable(method, size)
        if not suitable or number < self.after or (self.most is not None and struck >= self.most):
            return None
        chance = random.Random(f"{self.seed}/{number}")
        return chance.choice(suitable) if chance.random() < self.rate else None

    def suitable(self, method: str, size: int = 0) -> tuple[Fault, ...]:
        """Return the faults that can strike a request."""
        return tuple(fault for fault in self.faults if fault.suits(method, size))

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON knows."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FaultPlan:
        """Make a plan of what `to_json` returned."""
        faults = tuple(Fault(**{**fault, "methods": tuple(fault["methods"])}) for fault in values["faults"])
        return cls(**{**values, "faults": faults})


@dataclass(slots=True)
class FaultCount:
    """Follows a plan from request to request. Not for several threads at once."""

    plan: FaultPlan
    """The plan."""
    numbers: int = 0
    """How many requests could have been struck."""
    struck: int = 0
    """How many were."""
    injected: dict[str, int] = field(default_factory=dict)
    """How often each fault has taken effect, by name."""

    def next(self, method: str, size: int = 0) -> Fault | None:
        """Say what happens to the next request."""
        if not self.plan.suitable(method, size):
            return None
        fault = self.plan.choose(self.numbers, self.struck, method, size)
        self.numbers += 1
        if fault is not None:
            self.struck += 1
        return fault

    def note(self, name: str) -> None:
        """Count a fault that has taken effect."""
        self.injected[name] = self.injected.get(name, 0) + 1
