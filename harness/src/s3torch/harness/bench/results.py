"""What came out: each subject's runs as figures, and the verdict on each requirement. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from s3torch.harness.bench.scenario import GIB, Entry, Figure, Requirement, Role, Scenario
from s3torch.harness.bench.subjects.measure import Run

LEFT_OUT = "left out"
"""The failure of a subject that nobody wanted measured."""
CANNOT = "cannot take part"
"""How the failure of a subject begins that is shown only to say why it cannot do this."""


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None


@dataclass(frozen=True, slots=True)
class Measured:
    """One subject's runs."""

    entry: Entry
    """The subject."""
    runs: Sequence[Run] = ()
    """Its runs, less the warm-up."""
    resident: int = 0
    """Resident memory before its first run, in bytes."""
    objects: int = 1
    """Objects in each run."""
    size: int = 0
    """Bytes in each run."""
    requests: int | None = None
    """Requests that the server answered in one run, where they were counted."""
    sent: int | None = None
    """Bytes that the server sent in one run, where they were counted."""
    failure: str | None = None
    """Why there are no figures."""

    @property
    def is_left_out(self) -> bool:
        """Whether nobody wanted its figures."""
        return self.failure == LEFT_OUT

    @property
    def seconds(self) -> float:
        """Median time of a run."""
        return median(run.seconds for run in self.runs)

    @property
    def spread(self) -> float:
        """Largest less smallest time, as a part of the median."""
        times = [run.seconds for run in self.runs]
        return (max(times) - min(times)) / median(times)

    @property
    def cpu(self) -> float:
        """Median processor seconds of a run."""
        return median(run.cpu for run in self.runs)

    @property
    def extra_memory(self) -> int:
        """Highest resident memory of any run above that before the first, in bytes."""
        return max(0, max(run.peak for run in self.runs) - self.resident)

    @property
    def first(self) -> float | None:
        """Median time to the first delivery, an object or a batch; None where the whole is delivered at once."""
        return _median(run.first for run in self.runs)

    @property
    def p50(self) -> float | None:
        """Median over the runs of the median wait for a delivery; None where the whole is delivered at once."""
        return _median(run.p50 for run in self.runs)

    @property
    def p99(self) -> float | None:
        """Median over the runs of the wait that 1 % of deliveries exceed; None where the whole is delivered at once."""
        return _median(run.p99 for run in self.runs)

    def rate(self, scenario: Scenario) -> float:
        """Return objects per second where there are many, bytes per second otherwise."""
        return (self.objects if scenario.count > 1 else self.size) / self.seconds

    def figure(self, which: Figure, scenario: Scenario) -> float:
        """Return one figure in base units."""
        if which is Figure.RATE:
            return self.rate(scenario)
        if which is Figure.CPU:
            return self.cpu / (self.objects if scenario.count > 1 else self.size / GIB)
        if which is Figure.MEMORY:
            return self.extra_memory / self.size
        if which is Figure.EXTRA:
            return self.extra_memory
        if which is Figure.SENT:
            return math.nan if self.sent is None else self.sent / self.size
        return self.seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """One requirement, held against one of our subjects."""

    requirement: Requirement
    """What is required."""
    subject: str
    """Of whom."""
    value: float | None
    """The ratio or figure reached; None where something to compare with is missing."""

    @property
    def is_met(self) -> bool | None:
        """Whether it is; None where that cannot be said."""
        if self.value is None:
            return None
        limit = self.requirement.limit
        return self.value >= limit if self.requirement.is_minimum else self.value <= limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario with what it gave."""

    scenario: Scenario
    """The scenario as it was run."""
    measured: Sequence[Measured] = ()
    """Its subjects, in order."""
    skipped: str | None = None
    """Why it was not run."""
    verdicts: Sequence[Verdict] = field(init=False, default=())
    """Each requirement for each of our subjects."""

    def __post_init__(self) -> None:
        """Judge."""
        object.__setattr__(self, "verdicts", tuple(judge(self.scenario, self.measured)))

    def best(self, role: Role) -> Measured | None:
        """Return the fastest subject of a role that has figures."""
        return _best(self.measured, role)


def _best(measured: Sequence[Measured], role: Role) -> Measured | None:
    found = [each for each in measured if each.entry.role is role and each.runs]
    # By time and not by rate: what is only imported or listed has no bytes.
    return min(found, key=lambda each: each.seconds / each.objects, default=None)


def judge(scenario: Scenario, measured: Sequence[Measured]) -> list[Verdict]:
    """Hold each of our judged subjects against each requirement.

    Args:
        scenario: Says what is required.
        measured: All its subjects.
    """
    verdicts = []
    for subject in measured:
        if subject.entry.role is not Role.OURS or not subject.entry.is_judged:
            continue
        for requirement in scenario.requirements:
            value = None
            if subject.runs:
                value = _value(requirement, subject, scenario, measured)
            if value is not None and math.isnan(value):
                value = None
            verdicts.append(Verdict(requirement, subject.entry.name, value))
    return verdicts


def _value(
    requirement: Requirement, subject: Measured, scenario: Scenario, measured: Sequence[Measured]
) -> float | None:
    figure = subject.figure(requirement.figure, scenario)
    if requirement.against is None:
        return figure
    if requirement.against in (Role.FLOOR.value, Role.ORIGINAL.value):
        other = _best(measured, Role(requirement.against))
    else:
        named = (each for each in measured if each.entry.name == requirement.against and each.runs)
        other = next(named, None)
    return figure / other.figure(requirement.figure, scenario) if other else None
