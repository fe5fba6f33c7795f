"""The command: options, their check, and what becomes of errors and Ctrl-C."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from s3torch.harness._signals import INTERRUPTED, clean_up_on_sigterm

if TYPE_CHECKING:
    from s3torch.harness.conform.settings import Settings

__all__ = ["command"]

_BROKEN = 1
_CANNOT_RUN = 2

# typer reads these at run time, and on Python 3.10 wants Optional rather than `str | None`.
_OptionalText = Optional[str]  # noqa: UP045
_OptionalTexts = Optional[list[str]]  # noqa: UP045


def command(
    reader: Annotated[
        _OptionalTexts, typer.Option(metavar="MODULE:NAME", help="Test this reader constructor; may be repeated.")
    ] = None,
    writer: Annotated[
        _OptionalText,
        typer.Option(metavar="MODULE:NAME", help="Test what this function of client, bucket and key makes."),
    ] = None,
    engine: Annotated[
        _OptionalText,
        typer.Option(
            metavar="ENGINE",
            help="direct, boto3, memory, or module:factory: what reader and writer work on; alone, what is tested.",
        ),
    ] = None,
    server: Annotated[
        _OptionalText, typer.Option(metavar="NAME", help="The server to start: moto (default) or swift.")
    ] = None,
    endpoint: Annotated[
        _OptionalText,
        typer.Option(
            metavar="URL", help="Your own S3, with what boto3 finds as credentials; alone, it is what is tested."
        ),
    ] = None,
    bucket: Annotated[
        _OptionalText, typer.Option(help="Use this empty bucket of it only; else buckets are made and removed.")
    ] = None,
    slack: Annotated[
        _OptionalText,
        typer.Option(metavar="BYTES", help="What a small read may fetch beyond what was asked for (1MiB)."),
    ] = None,
    law: Annotated[
        _OptionalTexts, typer.Option(metavar="NAME", help="Only this law, with details; may be repeated.")
    ] = None,
    exit_first: Annotated[bool, typer.Option("--exit-first", "-x", help="Stop at the first broken law.")] = False,
    timeout: Annotated[int, typer.Option(help="Seconds until a law that does not end counts as broken.")] = 120,
) -> None:
    """Put a reader, a writer, an engine or a server to the test, and sum up which laws hold.

    Names are module:name; the current folder can be imported from. The exit status is 0 if all laws hold that could be
    tried, 1 if one is broken, 2 if there was nothing to be run.
    """
    from s3torch.harness.conform.settings import Settings, check_settings

    settings = Settings(
        readers=tuple(reader or ()),
        writer=writer,
        engine=engine,
        server=server,
        endpoint=endpoint,
        bucket=bucket,
        slack=slack,
        laws=tuple(law or ()),
        exit_first=exit_first,
        timeout=timeout,
    )
    try:
        check_settings(settings)
    except ValueError as error:
        _complain(str(error))
        raise typer.Exit(_CANNOT_RUN) from None
    raise typer.Exit(_run(settings))


def _run(settings: Settings) -> int:
    """Run the command; return the exit status."""
    from rich.console import Console

    from s3torch.harness.conform.run import CannotRunError, conform

    try:
        with clean_up_on_sigterm():
            return 0 if conform(settings, Console(), Console(stderr=True)) else _BROKEN
    except CannotRunError as error:
        _complain(str(error))
        return _CANNOT_RUN
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED


def _complain(message: str) -> None:
    sys.stderr.write(f"s3torch conform: {' '.join(message.split())}\n")
