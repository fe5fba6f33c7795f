"""What the report shows, as plain values: texts, and parts of a width between 0 and 1. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from s3torch.harness.bench import figures
from s3torch.harness.bench.history import LOCAL, Record, ScenarioRecord, SubjectRecord
from s3torch.harness.bench.html._charts import GLANCE, Bar, Card, Dot, Line, Trend, make_bars, make_line, make_trend
from s3torch.harness.bench.html._table import Cell, make_table
from s3torch.harness.bench.regressions import Change, Kind, Measure, comparable, count_compared
from s3torch.harness.bench.scenario import Role

__all__ = ["Bar", "Card", "Dot", "Line", "Page", "Tile", "Trend", "make_page"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure above all others."""

    figure: str
    """The figure."""
    text: str
    """What it is."""
    tone: str = ""
    """``good``, ``bad``, or nothing."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that has changed, or where others are ahead."""

    scenario: str
    """Its scenario's name."""
    text: str
    """What there is to say."""
    tone: str = ""
    """``good``, ``bad``, or nothing."""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    made: str
    """When it was measured, for people."""
    machine: str
    """On what."""
    store: str
    """Against what."""
    how: str
    """How often."""
    is_quick: bool
    """Whether the figures mean nothing."""
    tiles: Sequence[Tile]
    """The figures above all others."""
    changes: Sequence[Note]
    """What differs from earlier runs."""
    unit: float
    """Where the floor lies in the overview."""
    lines: Sequence[Line]
    """All scenarios that have a floor, at a glance."""
    others: Sequence[Line]
    """Those that have none."""
    behind: Sequence[Note]
    """Where another is ahead of ours."""
    cards: Sequence[Card]
    """Each scenario's charts."""
    headings: Sequence[tuple[str, bool]]
    """The table's columns, and whether each holds numbers."""
    table: Sequence[Sequence[Cell]]
    """Every subject's figures."""


def make_page(record: Record, history: Sequence[Record], changes: Sequence[Change]) -> Page:
    """Decide what is shown.

    Args:
        record: The run.
        history: Earlier ones.
        changes: What differs from them.
    """
    earlier = comparable(record, history)
    lines = [line for scenario in record.scenarios if (line := make_line(scenario))]
    headings, table = make_table(record.scenarios)
    return Page(
        made=record.made.replace("T", " ").replace("Z", " UTC"),
        machine=str(record.machine),
        store="servers of its own on this machine" if record.store == LOCAL else record.store,
        how=f"median of {record.repeat} runs after a warm-up, subjects taking turns"
        if record.repeat > 1
        else "one run after a warm-up",
        is_quick=record.quick,
        tiles=_tiles(record, changes, count_compared(record, history)),
        changes=[_change(each) for each in changes],
        unit=1 / GLANCE,
        lines=[line for line in lines if line.has_floor],
        others=[line for line in lines if not line.has_floor],
        behind=[note for scenario in record.scenarios for note in _behind(scenario)],
        cards=[
            Card(
                scenario.scenario,
                scenario.title,
                scenario.skipped,
                *make_bars(scenario),
                make_trend(scenario, earlier),
            )
            for scenario in record.scenarios
        ],
        headings=headings,
        table=table,
    )


def _tiles(record: Record, changes: Sequence[Change], earlier: int) -> list[Tile]:
    verdicts = [verdict for scenario in record.scenarios for verdict in scenario.verdicts]
    known = [verdict for verdict in verdicts if verdict.met is not None]
    met = sum(verdict.met is True for verdict in known)
    tiles = []
    if known:
        tiles.append(Tile(f"{met} of {len(known)}", "requirements met", "good" if met == len(known) else "bad"))
    for role, text in (
        (Role.FLOOR, "the floor's speed, in the median"),
        (Role.ORIGINAL, "the original's speed, in the median"),
    ):
        ratios = [
            other.time / ours.time
            for scenario in record.scenarios
            if (ours := scenario.best(Role.OURS)) and (other := scenario.best(role))
        ]
        if ratios:
            tiles.append(Tile(figures.factor(median(ratios)), text))
    saved = [
        other.cpu / ours.cpu
        for scenario in record.scenarios
        if (ours := scenario.best(Role.OURS)) and (other := scenario.best(Role.ORIGINAL)) and ours.cpu > 0
    ]
    if saved:
        tiles.append(Tile(figures.factor(median(saved)), "less processor time than the original, in the median"))
    worse = sum(change.kind is not Kind.BETTER for change in changes)
    if earlier:
        runs = f"{earlier} earlier run{'s' * (earlier > 1)}"
        tiles.append(Tile(str(worse or "none"), f"worse than in {runs}", "bad" if worse else "good"))
    return tiles


def _change(change: Change) -> Note:
    if change.now is None or change.before is None or change.measure is None or change.against is None:
        text = f"{change.subject}: has no figures any more. {change.reason or ''}".strip()
        return Note(change.scenario, text, "bad")
    spread = f"{change.before.low:.2f} to {change.before.high:.2f}"
    text = (
        f"{change.subject}: {change.measure.value} {change.kind.value}: {figures.factor(change.now.value)} the "
        f"{change.against.value}'s, before {figures.factor(change.before.value)} ({spread})"
    )
    return Note(change.scenario, text, "good" if change.kind is Kind.BETTER else "bad")


def _behind(scenario: ScenarioRecord) -> list[Note]:
    """Return where one who is no floor is ahead of all of ours."""
    ours = [each for each in scenario.subjects if each.role is Role.OURS and each.seconds]
    theirs = [each for each in scenario.subjects if each.role in (Role.ORIGINAL, Role.PEER) and each.seconds]
    if not ours:
        return []

    def best(subjects: Sequence[SubjectRecord], measure: Measure) -> tuple[float, str]:
        found = [(each.time if measure is Measure.SPEED else each.cpu, each.name) for each in subjects]
        return min(found, default=(float("inf"), ""))

    notes = []
    for measure in Measure:
        (mine, _), (other, name) = best(ours, measure), best(theirs, measure)
        if 0 < other < mine:
            text = (
                f"{name} is {figures.factor(mine / other)} as fast"
                if measure is Measure.SPEED
                else f"{name} needs {figures.factor(other / mine)} our processor time"
            )
            notes.append(Note(scenario.scenario, text))
    return notes
