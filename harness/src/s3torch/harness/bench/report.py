"""The outcomes as tables for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from s3torch.harness.bench import figures
from s3torch.harness.bench.history import LOCAL, METHOD, Record, ScenarioRecord, SubjectRecord, VerdictRecord
from s3torch.harness.bench.machine import Machine
from s3torch.harness.bench.regressions import MIN_RUNS, Change, Kind
from s3torch.harness.bench.results import Measured, Outcome, Verdict
from s3torch.harness.bench.scenario import Figure, Role, Scenario

_STYLES = {Role.FLOOR: "cyan", Role.OURS: "bold", Role.ORIGINAL: "", Role.PEER: ""}


def format_figure(figure: Figure, value: float, scenario: Scenario) -> str:
    """Return a figure in the unit that its scenario is read in."""
    if figure is Figure.RATE:
        return figures.rate(value, is_of_objects=scenario.count > 1)
    if figure is Figure.CPU:
        return figures.cpu(value, is_of_objects=scenario.count > 1)
    if figure in (Figure.MEMORY, Figure.SENT):
        return figures.factor(value)
    return figures.size(value) if figure is Figure.EXTRA else figures.seconds(value)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print one scenario: every subject, the losing ones too."""
    scenario = outcome.scenario
    if outcome.skipped:
        console.print(f"[bold]{scenario.title}[/bold]: not run. {outcome.skipped}\n")
        return
    headings = [
        "subject",
        "time" if scenario.is_timed else "rate",
        "spread",
        "CPU",
        "peak memory",
        "/ floor",
        "/ original",
    ]
    if scenario.is_counted:
        headings += ["requests", "sent"]
    if any(measured.p50 is not None for measured in outcome.measured if measured.runs):
        headings += ["first", "p50", "p99"]
    table = Table(title=f"{scenario.name}: {scenario.title}", title_justify="left", title_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0)
    for measured in outcome.measured:
        if measured.is_left_out:
            continue
        table.add_row(*_row(measured, outcome, len(headings)), style=_STYLES[measured.entry.role])
    console.print(table)
    for measured in outcome.measured:
        if measured.failure and not measured.is_left_out:
            console.print(f"{measured.entry.name}: {measured.failure}", style="yellow", markup=False)
    console.print()


def _row(measured: Measured, outcome: Outcome, columns: int) -> list[str]:
    scenario = outcome.scenario
    if not measured.runs:
        return [measured.entry.name, *[figures.MISSING] * (columns - 1)]
    first = Figure.TIME if scenario.is_timed else Figure.RATE
    row = [
        measured.entry.name,
        format_figure(first, measured.figure(first, scenario), scenario),
        f"{measured.spread:.0%}",
        figures.seconds(measured.cpu)
        if scenario.is_timed
        else format_figure(Figure.CPU, measured.figure(Figure.CPU, scenario), scenario),
        _memory(measured, scenario),
    ]
    for role in (Role.FLOOR, Role.ORIGINAL):
        other = outcome.best(role)
        row.append(f"{other.seconds / measured.seconds * _scale(measured, other):.2f}" if other else figures.MISSING)
    if scenario.is_counted:
        row.append(figures.MISSING if measured.requests is None else f"{measured.requests:,}")
        row.append(figures.MISSING if measured.sent is None else figures.size(measured.sent))
    if len(row) < columns:
        row += [
            figures.MISSING if wait is None else figures.seconds(wait)
            for wait in (measured.first, measured.p50, measured.p99)
        ]
    return row


def print_changes(changes: Sequence[Change], earlier: int, console: Console, *, repeat: int) -> None:
    """Print what has changed beside the floor since earlier runs.

    Args:
        changes: What has.
        earlier: With how many earlier runs the ratios were compared.
        console: Where.
        repeat: Measured runs of each subject.
    """
    if not changes:
        said = "There is no comparable run to compare with; the next one will have this."
        if repeat < MIN_RUNS:
            said = f"Nothing was compared with earlier runs: that takes {MIN_RUNS} runs of each subject."
        elif earlier:
            runs = "the comparable run" if earlier == 1 else f"the last {earlier} comparable runs"
            said = f"Nothing has changed beside the floor since {runs}."
        console.print(said, highlight=False)
        return
    table = Table(title="What has changed since earlier runs", title_justify="left", title_style="bold")
    for number, heading in enumerate(("scenario", "subject", "figure", "before", "spread", "now", "")):
        table.add_column(heading, justify="right" if 2 < number < 6 else "left")
    for change in changes:
        style = "green" if change.kind is Kind.BETTER else "red"
        mark = f"[{style}]{change.kind.value}[/{style}]"
        if change.before is None or change.now is None or change.measure is None or change.against is None:
            table.add_row(change.scenario, change.subject, "", "", "", figures.MISSING, mark)
            continue
        before, now = change.before, change.now
        figure = f"{change.measure.value} / {change.against.value}"
        spread = f"{before.low:.2f} to {before.high:.2f}"
        table.add_row(change.scenario, change.subject, figure, f"{before.value:.2f}", spread, f"{now.value:.2f}", mark)
    console.print(table)


def _scale(measured: Measured, other: Measured) -> float:
    """Subjects of one scenario may run on different numbers of objects."""
    return measured.objects / other.objects


def _memory(measured: Measured, scenario: Scenario) -> str:
    if not measured.size:
        return figures.MISSING
    extra = format_figure(Figure.EXTRA, measured.extra_memory, scenario)
    return extra if scenario.count > 1 else f"{extra} ({figures.factor(measured.figure(Figure.MEMORY, scenario))})"


def print_verdicts(outcomes: Sequence[Outcome], console: Console, *, is_quick: bool) -> None:
    """Print what must be reached beside what was."""
    table = Table(title="What must be reached", title_justify="left", title_style="bold")
    for number, heading in enumerate(("scenario", "subject", "figure", "floor", "original", "required", "reached", "")):
        table.add_column(heading, justify="right" if 1 < number < 7 else "left")
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            table.add_row(*_verdict_row(outcome, verdict))
    if table.row_count:
        console.print(table)
    if is_quick:
        console.print("A quick run shows that everything works; its figures mean nothing.")


def _verdict_row(outcome: Outcome, verdict: Verdict) -> list[str]:
    scenario, requirement = outcome.scenario, verdict.requirement
    subject = next(each for each in outcome.measured if each.entry.name == verdict.subject)

    def figure(measured: Measured | None) -> str:
        if measured is None or not measured.runs:
            return figures.MISSING
        return format_figure(requirement.figure, measured.figure(requirement.figure, scenario), scenario)

    sign = ">=" if requirement.is_minimum else "<="
    if requirement.against is None:
        required = f"{sign} {format_figure(requirement.figure, requirement.limit, scenario)}"
        reached = figure(subject)
    else:
        required = f"{sign} {requirement.limit:.3g} {figures.TIMES} {requirement.against.partition(',')[0]}"
        reached = figures.MISSING if verdict.value is None else figures.factor(verdict.value)
    mark = {True: "[green]met[/green]", False: "[red]missed[/red]", None: "unknown"}[verdict.is_met]
    others = [figure(outcome.best(role)) for role in (Role.FLOOR, Role.ORIGINAL)]
    return [scenario.name, verdict.subject, figure(subject), *others, required, reached, mark]


def to_record(
    outcomes: Sequence[Outcome], *, made: datetime, machine: Machine, repeat: int, store: str = LOCAL, is_quick: bool
) -> Record:
    """Return everything measured as a record for the history.

    Args:
        outcomes: What was measured.
        made: When.
        machine: Where.
        repeat: Measured runs of each subject.
        store: ``local``, or what stands for the user's bucket.
        is_quick: Whether the figures mean nothing.
    """
    when = made.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Record(when, machine, repeat, tuple(_scenario_record(each) for each in outcomes), store, is_quick, METHOD)


def _scenario_record(outcome: Outcome) -> ScenarioRecord:
    scenario = outcome.scenario
    return ScenarioRecord(
        scenario=scenario.name,
        title=scenario.title,
        size=scenario.size,
        count=scenario.count,
        timed=scenario.is_timed,
        skipped=outcome.skipped,
        subjects=tuple(_subject_record(each) for each in outcome.measured),
        verdicts=tuple(
            VerdictRecord(
                verdict.subject,
                verdict.requirement.figure.value,
                verdict.requirement.limit,
                verdict.requirement.against,
                verdict.value,
                verdict.is_met,
            )
            for verdict in outcome.verdicts
        ),
    )


def _subject_record(measured: Measured) -> SubjectRecord:
    entry = measured.entry
    if not measured.runs:
        failure = measured.failure if entry.absence is None else None
        return SubjectRecord(entry.name, entry.role, entry.environment, failure, entry.absence)
    return SubjectRecord(
        entry.name,
        entry.role,
        entry.environment,
        seconds=tuple(run.seconds for run in measured.runs),
        cpu_seconds=tuple(run.cpu for run in measured.runs),
        extra_memory=measured.extra_memory,
        objects=measured.objects,
        bytes=measured.size,
        requests=measured.requests,
        sent=measured.sent,
        first=measured.first,
        p50=measured.p50,
        p99=measured.p99,
    )
