"""``python -m s3torch.harness.faults``: every fault against everything that reads and writes."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from s3torch.harness._command_line import run_program
from s3torch.harness._options import ENGINES, load_engine


def faults(
    fault: Annotated[list[str] | None, typer.Option(help="Only these faults; --list names them.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only these subjects; --list names them.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Only these engines: direct, boto3, memory, or your own module:function.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat the run that has printed it.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time; most of them wait.")] = 4 * (os.cpu_count() or 1),
    limit: Annotated[float, typer.Option(min=1, help="Seconds after which a subject hangs.")] = 90.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Name the faults and the subjects, and end.")] = False,
) -> None:
    """Let everything that reads and writes S3 meet every fault: right bytes or a typed error in time, or it fails."""
    if not hasattr(os, "fork"):
        raise typer.BadParameter("the matrix forks its cells, which this platform cannot do")
    from rich.console import Console

    from s3torch.harness.faults.cases import ALL_CASES
    from s3torch.harness.faults.matrix import Matrix, Settings, choose_cells
    from s3torch.harness.faults.report import print_failures, print_matrix, print_summary, to_json
    from s3torch.harness.faults.subjects import ALL_SUBJECTS

    console = Console(width=None if sys.stdout.isatty() else 180)
    if list_only:
        for case in ALL_CASES:
            console.print(f"{case.name:18}{case.title}", highlight=False)
        console.print()
        for each in ALL_SUBJECTS:
            console.print(f"{each.name:18}{(each.run.__doc__ or each.name).strip()}", highlight=False)
        return
    cases = _choose("fault", fault, ALL_CASES)
    subjects = _choose("subject", subject, ALL_SUBJECTS)
    engines = {name: _load_engine(name) for name in engine or ENGINES}
    cells = choose_cells(cases, subjects, list(engines))
    if not cells:
        raise typer.BadParameter("no cell has such a fault, such a subject and such an engine")
    if json_file is not None and not json_file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_file.parent}")
    seed = random.randrange(1 << 32) if seed is None else seed
    progress = Console(stderr=True, style="dim")
    progress.print(f"{len(cells)} cells, {jobs} at a time, --seed {seed}")
    started = last = time.monotonic()
    outcomes = []
    with Matrix(Settings(seed, jobs, limit)) as matrix:
        for outcome in matrix.run(cells, engines):
            outcomes.append(outcome)
            if not outcome.passes or time.monotonic() - last > 5:
                last = time.monotonic()
                cell = outcome.cell
                told = f": {cell.case} / {cell.subject} / {cell.engine} {outcome.verdict.value}"
                progress.print(f"{len(outcomes)} of {len(cells)}{'' if outcome.passes else told}", highlight=False)
    seconds = time.monotonic() - started
    order = {cell: number for number, cell in enumerate(choose_cells(ALL_CASES, ALL_SUBJECTS, list(engines)))}
    outcomes.sort(key=lambda each: order[each.cell])
    print_matrix(outcomes, console)
    print_failures(outcomes, console)
    print_summary(outcomes, console, seed=seed, seconds=seconds)
    if json_file is not None:
        told = json.dumps(to_json(outcomes, seed=seed, seconds=seconds), indent=2)
        json_file.write_text(told + "\n", encoding="utf-8")
    if not all(outcome.passes for outcome in outcomes):
        raise typer.Exit(1)


def _load_engine(name: str) -> Any:
    try:
        return load_engine("--engine", name)
    except ValueError as error:
        raise typer.BadParameter(f"no such engine: {name} ({error})") from error


def _choose(kind: str, wanted: list[str] | None, all_of_them: Any) -> Any:
    unknown = sorted(set(wanted or ()) - {each.name for each in all_of_them})
    if unknown:
        raise typer.BadParameter(f"no such {kind}: {', '.join(unknown)}; --list names all")
    return [each for each in all_of_them if not wanted or each.name in wanted]


if __name__ == "__main__":
    sys.exit(run_program(faults, "python -m s3torch.harness.faults"))
