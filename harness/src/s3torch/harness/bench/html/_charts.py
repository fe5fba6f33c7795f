"""The charts' geometry: where bars, dots and lines lie, as parts of the width or height. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from s3torch.harness.bench import figures
from s3torch.harness.bench.history import Record, ScenarioRecord, SubjectRecord, VerdictRecord
from s3torch.harness.bench.regressions import Band, Measure, bands, reference
from s3torch.harness.bench.results import CANNOT
from s3torch.harness.bench.scenario import GIB, Figure, Role

GLANCE = 1.25
"""Where the scale of the overview ends, in multiples of the floor's speed."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure with its spread."""

    text: str
    """The figure."""
    length: float
    """Of the bar."""
    low: float
    """Where the spread begins."""
    high: float
    """Where it ends."""
    spoken: str
    """All of it in words."""


@dataclass(frozen=True, slots=True)
class Row:
    """One subject in its scenario's chart."""

    name: str
    """The subject."""
    role: str
    """Its role, which is its colour."""
    speed: Bar | None = None
    """How fast."""
    cpu: Bar | None = None
    """At what cost."""
    failure: str | None = None
    """What it said where it failed."""
    absence: str | None = None
    """Why it cannot take part."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One requirement."""

    text: str
    """What is required and what was reached."""
    met: bool | None
    """Whether it is."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run in a trend."""

    x: float
    """When: evenly spaced."""
    y: float
    """The ratio, from the top."""
    low: float
    """Where its spread ends below, from the top."""
    high: float
    """Where it ends above, from the top."""
    title: str
    """In words."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Our ratio over the runs."""

    text: str
    """What it shows, in words."""
    points: Sequence[Point]
    """The runs, the latest last."""
    unit: float
    """Where the ratio is one, from the top."""
    against: str
    """Of whom it is the ratio."""


@dataclass(frozen=True, slots=True)
class Card:
    """One scenario's charts."""

    name: str
    """The scenario."""
    title: str
    """What it is about."""
    skipped: str | None
    """Why it was not run."""
    speed_heading: str
    """What the first bars show."""
    cpu_heading: str
    """What the second bars show."""
    rows: Sequence[Row]
    """The subjects."""
    marks: Sequence[Mark]
    """The requirements."""
    trend: Trend | None
    """How it was before."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One subject in the overview."""

    x: float
    """Its speed beside the floor's."""
    role: str
    """Its role."""
    title: str
    """Who, and how fast."""


@dataclass(frozen=True, slots=True)
class Line:
    """One scenario in the overview."""

    name: str
    """The scenario."""
    title: str
    """What it is about."""
    dots: Sequence[Dot]
    """Its subjects, ours last and so on top."""
    text: str
    """Our figure."""
    met: int
    """Requirements met."""
    required: int
    """Requirements of which it is known."""
    has_floor: bool
    """Whether the reference is the floor, and not the fastest subject."""


def make_line(scenario: ScenarioRecord) -> Line | None:
    """Return a scenario's line in the overview; None where ours has no figures or nobody else has."""
    mine, floor = scenario.best(Role.OURS), scenario.best(Role.FLOOR)
    measured = [each for each in scenario.subjects if each.seconds]
    if mine is None or len(measured) < 2:
        return None
    base = floor or min(measured, key=lambda each: each.time)
    order = {Role.FLOOR: 0, Role.PEER: 1, Role.ORIGINAL: 2, Role.OURS: 3}
    dots = [
        Dot(min(1.0, base.time / each.time / GLANCE), each.role.value, f"{each.name}: {speed_text(scenario, each)}")
        for each in sorted(measured, key=lambda each: order[each.role])
    ]
    known = [verdict for verdict in scenario.verdicts if verdict.met is not None]
    return Line(
        scenario.scenario,
        scenario.title,
        dots,
        f"{base.time / mine.time:.0%}",
        sum(verdict.met is True for verdict in known),
        len(known),
        floor is not None,
    )


def speed_text(scenario: ScenarioRecord, subject: SubjectRecord) -> str:
    """Return how fast a subject is."""
    if scenario.timed:
        return figures.seconds(median(subject.seconds))
    return figures.rate(scenario.rate(subject), is_of_objects=scenario.count > 1)


def cpu_text(scenario: ScenarioRecord, subject: SubjectRecord) -> str:
    """Return what a subject costs."""
    if scenario.timed:
        return figures.seconds(median(subject.cpu_seconds))
    return figures.cpu(scenario.cpu(subject), is_of_objects=scenario.count > 1)


def make_bars(scenario: ScenarioRecord) -> tuple[str, str, list[Row], list[Mark]]:
    """Return a scenario's headings, rows and marks."""
    per = "" if scenario.timed else "/object" if scenario.count > 1 else "/GiB"
    headings = (
        "time, shorter is better" if scenario.timed else "speed, longer is better",
        f"CPU{per}, shorter is better",
    )
    measured = [each for each in scenario.subjects if each.seconds]
    speeds = {each.name: _speeds(scenario, each) for each in measured}
    costs = {each.name: _costs(scenario, each) for each in measured}
    ends = [max((max(each) for each in found.values() if each), default=1.0) for found in (speeds, costs)]
    rows = []
    for subject in scenario.subjects:
        if subject.is_left_out:
            continue
        if not subject.seconds:
            absence = None if subject.absence is None else f"{CANNOT}: {subject.absence}"
            failure = None if absence else subject.failure or "no figures"
            rows.append(Row(subject.name, subject.role.value, failure=failure, absence=absence))
            continue
        speed = _bar(speeds[subject.name], ends[0], speed_text(scenario, subject), "speed")
        cpu = _bar(costs[subject.name], ends[1], cpu_text(scenario, subject), "processor time")
        rows.append(Row(subject.name, subject.role.value, speed, cpu))
    return *headings, rows, _marks(scenario.verdicts)


def _speeds(scenario: ScenarioRecord, subject: SubjectRecord) -> list[float]:
    if scenario.timed:
        return list(subject.seconds)
    amount = subject.objects if scenario.count > 1 else subject.bytes
    return [amount / each for each in subject.seconds]


def _costs(scenario: ScenarioRecord, subject: SubjectRecord) -> list[float]:
    if scenario.timed:
        return list(subject.cpu_seconds)
    amount = subject.objects if scenario.count > 1 else subject.bytes / GIB
    return [each / amount for each in subject.cpu_seconds] if amount else []


def _bar(values: Sequence[float], end: float, text: str, what: str) -> Bar | None:
    if not values:
        return None
    length, low, high = (each / end if end > 0 else 0.0 for each in (median(values), min(values), max(values)))
    spread = f"{(high - low) / length:.0%}" if length > 0 else "0%"
    return Bar(text, length, low, high, f"{what} {text}, spread {spread}")


def _marks(verdicts: Sequence[VerdictRecord]) -> list[Mark]:
    is_one = len({verdict.subject for verdict in verdicts}) == 1
    return [_mark(each, "" if is_one else f", {each.subject}") for each in verdicts]


def _mark(verdict: VerdictRecord, of: str) -> Mark:
    is_minimum = verdict.figure == Figure.RATE.value
    sign = "≥" if is_minimum else "≤"
    if verdict.against is None:
        limit, reached = (_plain(verdict.figure, each) for each in (verdict.limit, verdict.reached))
    else:
        limit = f"{verdict.limit:.3g} {figures.TIMES} {verdict.against}"
        reached = figures.MISSING if verdict.reached is None else figures.factor(verdict.reached)
    return Mark(f"{verdict.figure} {sign} {limit}: {reached}{of}", verdict.met)


def _plain(figure: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return figures.MISSING
    if figure == Figure.RATE.value:
        return f"{figures.size(value)}/s" if value > 1e8 else f"{value:,.0f}/s"
    if figure in (Figure.TIME.value, Figure.CPU.value):
        return figures.seconds(value)
    return figures.size(value) if figure == Figure.EXTRA.value else f"{figures.factor(value)} the data"


def make_trend(scenario: ScenarioRecord, earlier: Sequence[Record]) -> Trend | None:
    """Return how our speed beside the floor's has gone; None where there is nothing to compare with.

    Args:
        scenario: The scenario as it is now.
        earlier: Comparable runs, the oldest first.
    """
    mine = scenario.best(Role.OURS)
    if mine is None:
        return None
    role, now = reference(scenario, mine, Measure.SPEED)
    found = [each for record in earlier if (each := record.find(scenario.scenario)) and each.kind == scenario.kind]
    before = bands(mine.name, found, Measure.SPEED, role)
    if now is None or not before:
        return None
    all_bands = [*before, now]
    top = max(1.0, *(band.high for band in all_bands)) * 1.1
    points = [
        Point(
            (number + 0.5) / len(all_bands),
            1 - band.value / top,
            1 - band.low / top,
            1 - band.high / top,
            _spoken(band),
        )
        for number, band in enumerate(all_bands)
    ]
    then = median(band.value for band in before)
    text = f"{mine.name}: {now.value:.2f} of the {role.value}'s speed now, {then:.2f} in {len(before)} before"
    return Trend(text, points, 1 - 1 / top, role.value)


def _spoken(band: Band) -> str:
    return f"{band.value:.2f} ({band.low:.2f} to {band.high:.2f})"
