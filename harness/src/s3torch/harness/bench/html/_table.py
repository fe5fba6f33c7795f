"""The table of all figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.harness.bench import figures
from s3torch.harness.bench.history import ScenarioRecord, SubjectRecord
from s3torch.harness.bench.html._charts import cpu_text, speed_text
from s3torch.harness.bench.scenario import Role


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell."""

    text: str
    """For people."""
    order: str | float | None = None
    """By what it is sorted; None goes last."""


_HEADINGS = (
    ("scenario", False),
    ("subject", False),
    ("role", False),
    ("speed", True),
    ("of floor", True),
    ("of original", True),
    ("spread", True),
    ("CPU", True),
    ("memory", True),
    ("requests", True),
    ("first", True),
    ("p50", True),
    ("p99", True),
)


def make_table(scenarios: Sequence[ScenarioRecord]) -> tuple[Sequence[tuple[str, bool]], list[list[Cell]]]:
    """Return the headings, and a row for each subject with figures."""
    rows = [_row(scenario, each) for scenario in scenarios for each in scenario.subjects if each.seconds]
    return _HEADINGS, rows


def _row(scenario: ScenarioRecord, subject: SubjectRecord) -> list[Cell]:
    rate = 1 / subject.time if scenario.timed or not subject.bytes else scenario.rate(subject)
    cpu = scenario.cpu(subject)
    return [
        Cell(scenario.scenario, scenario.scenario),
        Cell(subject.name, subject.name),
        Cell(subject.role.value, subject.role.value),
        Cell(speed_text(scenario, subject), rate),
        *(_ratio(scenario, subject, role) for role in (Role.FLOOR, Role.ORIGINAL)),
        Cell(f"{subject.spread:.0%}", subject.spread),
        Cell(cpu_text(scenario, subject), None if math.isnan(cpu) else cpu),
        Cell(figures.size(subject.extra_memory), subject.extra_memory),
        _count(subject),
        *(_wait(each) for each in (subject.first, subject.p50, subject.p99)),
    ]


def _ratio(scenario: ScenarioRecord, subject: SubjectRecord, role: Role) -> Cell:
    other = scenario.best(role)
    if other is None:
        return Cell(figures.MISSING)
    return Cell(figures.factor(other.time / subject.time), other.time / subject.time)


def _count(subject: SubjectRecord) -> Cell:
    if subject.requests is None:
        return Cell(figures.MISSING)
    return Cell(f"{subject.requests:,}", subject.requests)


def _wait(value: float | None) -> Cell:
    return Cell(figures.MISSING) if value is None else Cell(figures.seconds(value), value)
