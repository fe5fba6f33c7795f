"""A soak on the terminal: live while it runs, and its verdict."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s3torch.harness.soak.soaking import Report
from s3torch.harness.soak.trend import Growth

__all__ = ["draw_progress", "print_verdict"]

_MIB = 1024**2


def draw_progress(report: Report) -> RenderableType:
    """Return what is to be seen while a soak runs.

    Args:
        report: What it has seen so far.
    """
    total = report.settings.minutes * 60
    parts: list[RenderableType] = [
        ProgressBar(total=total, completed=min(report.seconds, total), width=60),
        Text(summary_of(report), no_wrap=True),
    ]
    if report.samples:
        now = report.samples[-1]
        held = f"{now.memory / _MIB:,.0f} MiB, {now.threads} threads, {now.descriptors} descriptors"
        parts.append(Text(f"held after the last round: {held}, {now.children} children", style="dim"))
    parts += [Text(line.splitlines()[0], style="bold red", no_wrap=True) for line in report.broken[:5]]
    return Group(*parts)


def summary_of(report: Report) -> str:
    """Return the counts in one line.

    Args:
        report: What has been seen.
    """
    faults = sum(report.injected.values())
    return (
        f"{report.seconds:,.0f} s, {report.rounds:,} rounds, {report.size / 1e6:,.0f} MB compared, {faults:,} faults, "
        f"{sum(report.errors.values()):,} typed errors, {len(report.broken):,} broken"
    )


def print_verdict(report: Report, console: Console) -> None:
    """Print what a soak has shown.

    Args:
        report: What it has seen.
        console: Where.
    """
    console.print(f"\nseed {report.settings.seed}: {summary_of(report)}", soft_wrap=True)
    if report.done:
        done = (f"{n} x {name} (at most {report.longest[name]:.1f} s)" for name, n in sorted(report.done.items()))
        console.print("done: " + ", ".join(done), style="dim", soft_wrap=True)
    if report.injected:
        faults = ", ".join(f"{number} x {name}" for name, number in sorted(report.injected.items()))
        console.print(f"faults: {faults}", style="dim", soft_wrap=True)
    for text, number in report.errors.most_common():
        console.print(f"typed error, {number} x {text}", style="dim", markup=False, soft_wrap=True)
    growths = report.growths()
    console.print(_growth_table(growths))
    for message in report.broken:
        console.print(f"BROKEN: {message}", style="bold red", markup=False)
    for growth in growths:
        if growth.grows:
            console.print(f"GROWS: {growth.measure.name}, {_amount(growth, growth.slope)} a minute", style="bold red")
    if report.is_interrupted:
        console.print("interrupted: the verdict is that of the time until then", style="yellow")
    if report.is_good and all(growth.grows is None for growth in growths):
        console.print("GOOD so far, but too short to say whether anything grows", style="bold green")
    elif report.is_good:
        console.print("GOOD: every byte right, no hang, and nothing grows", style="bold green")
    elif not report.broken and not any(growth.grows for growth in growths):
        console.print("NOTHING SHOWN: no activity ended, or no fault took effect", style="bold red")


def _growth_table(growths: list[Growth]) -> Table:
    table = Table(title="Held at rest, first quarter left out", title_justify="left", title_style="bold")
    for number, heading in enumerate(("", "first third", "last third", "a minute", "99 % between", "allowed", "")):
        table.add_column(heading, justify="right" if 0 < number < 6 else "left")
    for growth in growths:
        verdict = {True: "[red]grows[/red]", False: "[green]steady[/green]", None: "too few rounds"}[growth.grows]
        table.add_row(
            growth.measure.name,
            _amount(growth, growth.first),
            _amount(growth, growth.last),
            _amount(growth, growth.slope, signed=True),
            f"{_amount(growth, growth.low, signed=True)} and {_amount(growth, growth.high, signed=True)}",
            f"{_amount(growth, growth.measure.limit)}",
            verdict,
        )
    return table


def _amount(growth: Growth, value: float, *, signed: bool = False) -> str:
    number = value / growth.measure.unit
    text = f"{number:+,.2f}" if signed else f"{number:,.1f}".removesuffix(".0")
    return text + growth.measure.suffix
