"""What became of one cell of the matrix, and whether that passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Cell", "Outcome", "Report", "Verdict", "judge"]


class Verdict(str, Enum):
    """What a subject made of a fault."""

    RIGHT = "right"
    """Everything is as it should be."""
    ERROR = "error"
    """A typed error, in time."""
    WRONG = "WRONG BYTES"
    """Bytes that are not those of the object, or an object that is neither the old one nor the new one."""
    HANG = "HANG"
    """No end within the limit."""
    UNTYPED = "UNTYPED ERROR"
    """An error that tells nobody what has happened, or the end of the process."""
    EARLY = "EARLY"
    """Done sooner than the server had asked to wait."""
    UNSTRUCK = "NOT STRUCK"
    """The fault never took effect: the cell shows nothing."""
    UNMENDED = "NOT MENDED"
    """A typed error where the fault passes and the engine has to mend it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One subject under one fault on one engine."""

    case: str
    """The name of the fault's case."""
    subject: str
    """The name of the subject."""
    engine: str
    """The engine."""


@dataclass(slots=True)
class Report:
    """What a subject's process tells of itself."""

    is_done: bool = False
    """Whether it came to its end without an error."""
    wrong: list[str] = field(default_factory=list)
    """What was not as it should be."""
    error: str = ""
    """The error, in a line."""
    is_typed: bool = False
    """Whether the error is of the tree of errors."""
    seconds: float = 0.0
    """How long it took."""
    injected: dict[str, int] = field(default_factory=dict)
    """The faults that took effect, where the process itself injects them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell and its verdict."""

    cell: Cell
    """Which."""
    verdict: Verdict
    """What became of it."""
    seconds: float
    """How long it took."""
    struck: int
    """How often the fault took effect."""
    detail: str = ""
    """What the subject said."""

    @property
    def passes(self) -> bool:
        """Whether that is a pass."""
        return self.verdict in (Verdict.RIGHT, Verdict.ERROR)


def judge(report: Report | None, *, struck: int, is_certain: bool, must_mend: bool, least_s: float) -> Verdict:
    """Say what became of a cell whose process has ended by itself.

    Args:
        report: What the process told; None where it told nothing.
        struck: How often the fault took effect.
        is_certain: Whether it had to take effect at least once.
        must_mend: Whether an error is no pass.
        least_s: Seconds that the server asked to wait in all.
    """
    if report is None:
        return Verdict.UNTYPED
    if report.wrong:
        return Verdict.WRONG
    if not report.is_done and not report.is_typed:
        return Verdict.UNTYPED
    if is_certain and not struck:
        return Verdict.UNSTRUCK
    if not report.is_done:
        return Verdict.UNMENDED if must_mend else Verdict.ERROR
    return Verdict.EARLY if report.seconds < least_s else Verdict.RIGHT
