"""``python -m s3torch.harness.scale``: measure or take costs, and print what one host needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table as RichTable

from s3torch.client import S3Exception
from s3torch.harness._command_line import run_program
from s3torch.harness.scale.costs import Costs, CostsError
from s3torch.harness.scale.measuring import measure_costs
from s3torch.harness.scale.model import Service
from s3torch.harness.scale.reality import CASES, TOLERANCE, check_model
from s3torch.harness.scale.tables import (
    LINKS,
    Table,
    compare,
    comparison_table,
    costs_table,
    needs_table,
    reality_table,
)

_NAME = "python -m s3torch.harness.scale"
_FAILED, _BAD_ARGUMENT = 1, 2
# typer reads these at run time, and on Python 3.10 wants Optional rather than `X | None`.
_OptionalPath = Optional[Path]  # noqa: UP045
_OptionalLinks = Optional[list[int]]  # noqa: UP045


def scale(
    costs: Annotated[_OptionalPath, typer.Option(help="Costs measured before; else they are measured now.")] = None,
    save: Annotated[_OptionalPath, typer.Option(help="Write the measured costs to this file.")] = None,
    gbps: Annotated[_OptionalLinks, typer.Option(min=1, help="Links in Gbit/s; by default 25, 100 and 400.")] = None,
    first_byte: Annotated[float, typer.Option(min=0.0, help="Milliseconds to a first byte, on average.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.001, help="MB/s of one connection at most.")] = 90.0,
    check: Annotated[bool, typer.Option("--check", help="Also hold the model against real sockets.")] = False,
) -> int:
    """Say what one host needs to fill its network card with data from S3, and check it by simulation."""
    console, progress = Console(width=None if sys.stdout.isatty() else 150), Console(stderr=True, style="dim")
    if costs is not None and save is not None:
        return _complain("--save writes what is measured, and with --costs nothing is", _BAD_ARGUMENT)
    try:
        found = Costs.load(costs) if costs else measure_costs(progress.print)
        if save:
            found.save(save)
        service = Service(first_byte / 1e3, rate * 1e6)
        links = tuple(gbps or LINKS)
        _show(console, costs_table(found))
        _show(console, needs_table(found, service, links=links))
        progress.print("simulating")
        _show(console, comparison_table(compare(found, service, links=links)))
        return _check(console, progress, found) if check else 0
    except CostsError as error:
        return _complain(str(error), _BAD_ARGUMENT)
    except (OSError, S3Exception) as error:
        return _complain(str(error), _FAILED)


def _check(console: Console, progress: Console, costs: Costs) -> int:
    checked = []
    for case in CASES:
        progress.print(f"{case.connections} connections, requests of {case.size:,} bytes")
        checked.append(check_model(costs, case))
    _show(console, reality_table(checked))
    if all(each.agrees for each in checked):
        return 0
    return _complain(f"measured and predicted differ by more than {TOLERANCE:.0%}", _FAILED)


def _show(console: Console, table: Table) -> None:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold")
    for number, heading in enumerate(table.headings):
        shown.add_column(heading, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"{_NAME}: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(run_program(scale, _NAME))
