"""What has become worse since earlier runs: by its ratio to the floor, never by time, and beyond the spread. Pure.

The subjects of a scenario take turns, so that a run of ours and the floor's run of the same turn see the same machine,
and their ratio tells what we cost, however fast the machine was that day. A change counts when the ranges of these
ratios, from the least of a run's turns to the greatest, no longer touch, and the medians differ by more than 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from s3torch.harness.bench.history import Record, ScenarioRecord, SubjectRecord
from s3torch.harness.bench.scenario import Role

TOLERANCE = 0.05
"""Medians that differ by less have not changed."""
MIN_RUNS = 3
"""Fewer turns have no range worth the name."""
KEPT = 5
"""How many of the latest comparable runs are compared with."""


class Measure(str, Enum):
    """What is compared."""

    SPEED = "speed"
    """Our rate as a part of the floor's: more is better."""
    CPU = "CPU"
    """Our processor time as a multiple of the floor's: less is better."""

    @property
    def is_minimum(self) -> bool:
        """Whether more is better."""
        return self is Measure.SPEED


class Kind(str, Enum):
    """What has happened."""

    WORSE = "worse"
    BETTER = "better"
    LOST = "lost"
    """It fails, or is no longer measured, where there were figures the last time."""


@dataclass(frozen=True, slots=True)
class Band:
    """A ratio with its spread."""

    value: float
    """Of the medians."""
    low: float
    """The least of any turn."""
    high: float
    """The greatest of any turn."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that differs from earlier runs by more than chance explains."""

    scenario: str
    """In which scenario."""
    subject: str
    """Which of our subjects."""
    kind: Kind
    """What has happened."""
    measure: Measure | None = None
    """Of what; None where it is lost."""
    against: Role | None = None
    """Whose ratio it is: the floor's, or the original's where a scenario has no floor."""
    before: Band | None = None
    """The medians of the runs compared with."""
    now: Band | None = None
    """This run's."""
    runs: int = 0
    """How many runs it was compared with."""
    reason: str | None = None
    """Why it is lost."""


def is_comparable(now: Record, then: Record) -> bool:
    """Tell whether two runs may be compared: the same machine, store and method, and figures that mean something."""
    same = (now.machine.kind, now.store, now.method) == (then.machine.kind, then.store, then.method)
    return same and not now.quick and not then.quick


def comparable(now: Record, history: Sequence[Record]) -> list[Record]:
    """Return the earlier runs that may be compared with and have measured some of the same, the oldest first."""
    kinds = {each.kind for each in now.scenarios if each.skipped is None}
    found = [each for each in history if each.made < now.made and is_comparable(now, each) and _has(each, kinds)]
    return sorted(found, key=lambda each: each.made)


def _has(record: Record, kinds: set[tuple[str, int, int]]) -> bool:
    return any(each.kind in kinds and each.best(Role.OURS) is not None for each in record.scenarios)


def count_compared(now: Record, history: Sequence[Record]) -> int:
    """Return with how many earlier runs the ratios are compared; none where either has too few runs of each subject."""
    if now.repeat < MIN_RUNS:
        return 0
    return min(KEPT, sum(each.repeat >= MIN_RUNS for each in comparable(now, history)))


def measure_ratio(scenario: ScenarioRecord, subject: SubjectRecord, measure: Measure, role: Role) -> Band | None:
    """Return a subject's ratio to the best of a role.

    Args:
        scenario: Theirs.
        subject: Of the scenario.
        measure: Which ratio.
        role: The floor's or the original's; its fastest subject.

    Returns:
        The ratio; None where either has too few figures.
    """
    other = scenario.best(role)
    if other is None or min(len(subject.seconds), len(other.seconds)) < MIN_RUNS:
        return None
    if measure is Measure.SPEED:
        upper, lower = _per_object(other.seconds, other), _per_object(subject.seconds, subject)
    else:
        upper, lower = _per_object(subject.cpu_seconds, subject), _per_object(other.cpu_seconds, other)
    if min(upper) <= 0 or min(lower) <= 0:
        return None  # below the clock's resolution
    if len(upper) == len(lower):
        turns = [one / other for one, other in zip(upper, lower, strict=True)]
        low, high = min(turns), max(turns)
    else:
        low, high = min(upper) / max(lower), max(upper) / min(lower)
    value = median(upper) / median(lower)
    return Band(value, min(low, value), max(high, value))


def _per_object(times: Sequence[float], subject: SubjectRecord) -> list[float]:
    # Subjects of one scenario may run on different numbers of objects.
    return [time / subject.objects for time in times]


def judge_band(before: Sequence[Band], now: Band, measure: Measure) -> Kind | None:
    """Tell whether a ratio differs from earlier ones.

    Args:
        before: The earlier ones; at least one.
        now: This one.
        measure: Tells which way is better.

    Returns:
        None where chance may explain the difference.
    """
    then = middle(before)
    if now.high < then.low and now.value < then.value * (1 - TOLERANCE):
        return Kind.WORSE if measure.is_minimum else Kind.BETTER
    if now.low > then.high and now.value * (1 - TOLERANCE) > then.value:
        return Kind.BETTER if measure.is_minimum else Kind.WORSE
    return None


def middle(bands: Sequence[Band]) -> Band:
    """Return the medians of several ratios and of their ends: one odd run among them changes little."""
    return Band(*(median(getattr(band, name) for band in bands) for name in ("value", "low", "high")))


def compare(now: Record, history: Sequence[Record]) -> list[Change]:
    """Hold a run against the latest comparable ones.

    Args:
        now: The run.
        history: Earlier ones, in any order; those that cannot be compared are passed over.

    Returns:
        What has changed, in the order of the scenarios; nothing where there is nothing to compare with.
    """
    earlier = comparable(now, history)
    changes: list[Change] = []
    for scenario in now.scenarios:
        before = [found for each in earlier if (found := each.find(scenario.scenario)) and found.kind == scenario.kind]
        for subject in scenario.subjects:
            if subject.role is Role.OURS:
                changes += _changes(scenario, subject, before)
    return changes


def _changes(scenario: ScenarioRecord, subject: SubjectRecord, before: Sequence[ScenarioRecord]) -> list[Change]:
    if not subject.seconds:
        last = before[-1].find(subject.name) if before else None
        if subject.is_left_out or last is None or not last.seconds:
            return []
        return [Change(scenario.scenario, subject.name, Kind.LOST, reason=subject.failure)]
    changes = []
    for measure in Measure:
        role, now = reference(scenario, subject, measure)
        if now is None:
            continue
        then = bands(subject.name, before, measure, role)[-KEPT:]
        kind = judge_band(then, now, measure) if then else None
        if kind is not None:
            compared = (middle(then), now, len(then))
            changes.append(Change(scenario.scenario, subject.name, kind, measure, role, *compared))
    return changes


def reference(scenario: ScenarioRecord, subject: SubjectRecord, measure: Measure) -> tuple[Role, Band | None]:
    """Return what a subject is compared with, and the ratio to it: the floor, else the original."""
    for role in (Role.FLOOR, Role.ORIGINAL):
        band = measure_ratio(scenario, subject, measure, role)
        if band is not None:
            return role, band
    return Role.FLOOR, None


def bands(name: str, scenarios: Sequence[ScenarioRecord], measure: Measure, role: Role) -> list[Band]:
    """Return a subject's ratios in one scenario over several runs, those without passed over."""
    found = ((scenario, scenario.find(name)) for scenario in scenarios)
    ratios = (measure_ratio(scenario, subject, measure, role) for scenario, subject in found if subject is not None)
    return [band for band in ratios if band is not None]
