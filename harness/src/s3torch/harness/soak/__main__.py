"""``python -m s3torch.harness.soak``: run mixed load under faults and judge it."""

from __future__ import annotations

import random
import sys
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.live import Live

from s3torch.harness._command_line import run_program
from s3torch.harness._options import load_name
from s3torch.harness._signals import INTERRUPTED
from s3torch.harness.soak.settings import Settings
from s3torch.harness.soak.soaking import Report, run_soak
from s3torch.harness.soak.view import draw_progress, print_verdict, summary_of

_NAME = "python -m s3torch.harness.soak"
_FAILED, _BAD_ARGUMENT = 1, 2
_TOLD_SECONDS = 30.0
# typer reads these at run time, and on Python 3.10 wants Optional rather than `X | None`.
_OptionalInt = Optional[int]  # noqa: UP045
_OptionalNames = Optional[list[str]]  # noqa: UP045


def soak(
    minutes: Annotated[float, typer.Option(help="How long the load runs.")] = 10.0,
    rate: Annotated[float, typer.Option(help="Part of the requests that a fault strikes.")] = 0.05,
    seed: Annotated[_OptionalInt, typer.Option(help="Decides load and faults; by default another each time.")] = None,
    server: Annotated[str, typer.Option(help="moto, or origin for nginx.")] = "moto",
    workers: Annotated[int, typer.Option(help="Processes of each DataLoader.")] = 2,
    only: Annotated[_OptionalNames, typer.Option(help="Only this activity; may be given several times.")] = None,
    also: Annotated[
        _OptionalNames,
        typer.Option(metavar="MODULE:FUNCTION", help="Another activity, called each round with place and randomness."),
    ] = None,
    silence: Annotated[float, typer.Option(help="Seconds that one activity may take before it is a hang.")] = 120.0,
) -> int:
    """Run mixed load under faults; fail on a wrong byte, a hang, an error of another kind, or growth."""
    try:
        settings = Settings(
            minutes=minutes,
            rate=rate,
            seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
            server=server,
            workers=workers,
            only=tuple(only or ()),
            also=tuple(also or ()),
            silence=silence,
        )
        _check_names(settings)
    except ValueError as error:
        sys.stderr.write(f"{_NAME}: {error}\n")
        return _BAD_ARGUMENT
    console = Console()
    console.print(f"seed {settings.seed}: {minutes:g} minutes on {server}, {rate:.1%} of the requests struck")
    report = _run(settings, console)
    print_verdict(report, console)
    if not report.is_good:
        return _FAILED
    return INTERRUPTED if report.is_interrupted else 0


def _run(settings: Settings, console: Console) -> Report:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            return run_soak(settings, lambda report: live.update(draw_progress(report)))
    told = 0.0

    def tell(report: Report) -> None:
        nonlocal told
        if report.seconds - told >= _TOLD_SECONDS:
            told = report.seconds
            console.print(summary_of(report), soft_wrap=True)

    return run_soak(settings, tell)


def _check_names(settings: Settings) -> None:
    for name in settings.also:
        load_name("--also", name)
    if settings.only:
        from s3torch.harness.soak.activities import ALL

        if unknown := sorted(set(settings.only) - ALL.keys()):
            raise ValueError(f"there is no activity {unknown[0]!r}; there are: {', '.join(ALL)}")


if __name__ == "__main__":
    sys.exit(run_program(soak, _NAME))
