"""``python -m s3torch.harness.bench``: measure and print."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from s3torch.harness.bench.report import print_outcome, print_verdicts, to_json
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenarios import ALL_SCENARIOS

_NAMES = ", ".join(scenario.name for scenario in ALL_SCENARIOS)


def bench(
    scenario: Annotated[list[str] | None, typer.Option(help=f"Only these; all by default: {_NAMES}.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Measured runs of each subject, after a warm-up.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Small objects, one run: does everything work?")] = False,
    peers: Annotated[bool, typer.Option(help="Measure the peers too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when something required is missed.")] = False,
) -> None:
    """Measure reading and writing S3 beside the floor of plain sockets and the peers."""
    console = Console(width=None if sys.stdout.isatty() else 180)
    unknown = set(scenario or ()) - {each.name for each in ALL_SCENARIOS}
    if unknown:
        console.print(f"No such scenario: {', '.join(sorted(unknown))}. There are: {_NAMES}.")
        raise typer.Exit(2)
    chosen = [each for each in ALL_SCENARIOS if not scenario or each.name in scenario]
    settings = Settings(repeat=1 if quick else repeat, quick=quick, peers=peers)
    console.print(
        f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores; "
        f"medians of {settings.repeat} after a warm-up, subjects taking turns.\n"
    )
    outcomes = []
    progress = Console(stderr=True, style="dim")
    with Runner(settings, lambda line: progress.print(line, markup=False)) as runner:
        for each in chosen:
            progress.print(each.name)
            outcomes.append(runner.run(each))
            print_outcome(outcomes[-1], console)
    print_verdicts(outcomes, console, is_quick=quick)
    if json_file:
        json_file.write_text(json.dumps(to_json(outcomes), indent=2) + "\n", encoding="utf-8")
    if strict and any(verdict.is_met is False for outcome in outcomes for verdict in outcome.verdicts):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(bench)
