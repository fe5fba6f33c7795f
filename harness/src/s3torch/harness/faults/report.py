"""The matrix as tables for people, and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from s3torch.harness.faults.cases import ALL_CASES
from s3torch.harness.faults.subjects import ALL_SUBJECTS
from s3torch.harness.faults.verdict import Cell, Outcome, Verdict

__all__ = ["print_failures", "print_matrix", "print_summary", "to_json"]

_MARKS = {
    Verdict.RIGHT: "[green]right[/]",
    Verdict.ERROR: "[cyan]error[/]",
    Verdict.WRONG: "[bold red]WRONG[/]",
    Verdict.HANG: "[bold red]HANG[/]",
    Verdict.UNTYPED: "[bold red]UNTYPED[/]",
    Verdict.EARLY: "[bold red]EARLY[/]",
    Verdict.UNSTRUCK: "[bold yellow]UNSTRUCK[/]",
    Verdict.UNMENDED: "[bold red]UNMENDED[/]",
}


def print_matrix(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print a table for each engine, of those that read and of those that write."""
    found = {outcome.cell: outcome for outcome in outcomes}
    for engine in dict.fromkeys(outcome.cell.engine for outcome in outcomes):
        for writes in (False, True):
            subjects = [
                each.name
                for each in ALL_SUBJECTS
                if each.writes == writes and any(c.engine == engine and c.subject == each.name for c in found)
            ]
            if not subjects:
                continue
            title = f"{engine}: {'writing' if writes else 'reading'}"
            table = Table(box=None, pad_edge=False)
            table.add_column("fault", no_wrap=True)
            for name in subjects:
                table.add_column(name.replace("-", "\n"), justify="center")
            for case in ALL_CASES:
                row = [found.get(Cell(case.name, name, engine)) for name in subjects]
                if any(row):
                    table.add_row(case.name, *(_MARKS[each.verdict] if each else "[dim]·[/]" for each in row))
            console.print(f"[bold]{title}[/]")
            console.print(table)
            console.print()


def print_failures(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print what is no pass, with what the subjects said."""
    for outcome in outcomes:
        if not outcome.passes:
            cell = outcome.cell
            console.print(
                f"[bold red]{outcome.verdict.value}[/] {cell.case} / {cell.subject} / {cell.engine} "
                f"after {outcome.seconds:.1f} s, struck {outcome.struck} times"
            )
            console.print(escape(outcome.detail.strip() or "(nothing said)"), highlight=False)
            console.print()


def print_summary(outcomes: Sequence[Outcome], console: Console, *, seed: int, seconds: float) -> None:
    """Print counts, the seed, and whether all passed."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    told = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    failed = sum(not outcome.passes for outcome in outcomes)
    end = "all pass" if not failed else f"[bold red]{failed} do not pass[/]"
    console.print(f"{len(outcomes)} cells in {seconds:.0f} s with --seed {seed}: {told}; {end}.")


def to_json(outcomes: Sequence[Outcome], *, seed: int, seconds: float) -> dict[str, Any]:
    """Return everything, as JSON has it."""
    cells = [
        {**asdict(outcome.cell), **asdict(outcome), "verdict": outcome.verdict.value, "passes": outcome.passes}
        for outcome in outcomes
    ]
    for cell in cells:
        del cell["cell"]
    return {"seed": seed, "seconds": seconds, "passes": all(each.passes for each in outcomes), "cells": cells}
