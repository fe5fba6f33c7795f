"""The command: options, their check, and what becomes of errors and Ctrl-C."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from s3torch.harness._signals import INTERRUPTED, clean_up_on_sigterm

if TYPE_CHECKING:
    from s3torch.harness.demo.settings import Settings

__all__ = ["command"]

_FAILED = 1
_BAD_ARGUMENT = 2

# typer reads these at run time, and on Python 3.10 wants Optional rather than `str | None`.
_OptionalText = Optional[str]  # noqa: UP045


def command(
    uri: Annotated[
        _OptionalText, typer.Option(metavar="s3://BUCKET/PREFIX", help="Work in your own bucket, under a fresh prefix.")
    ] = None,
    endpoint: Annotated[_OptionalText, typer.Option(metavar="URL", help="Your S3-compatible store.")] = None,
    region: Annotated[_OptionalText, typer.Option(help="Its region; else the environment's.")] = None,
    profile: Annotated[_OptionalText, typer.Option(help="Profile of the shared AWS configuration.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of each run, at least 2.")] = 3,
    workers: Annotated[int, typer.Option(help="Processes of each DataLoader; 0 for none.")] = 2,
    samples: Annotated[int, typer.Option(help="Images in the data set.")] = 512,
    engine: Annotated[str, typer.Option(help="The client's engine: direct or boto3.")] = "direct",
    keep: Annotated[bool, typer.Option("--keep", help="Leave in your bucket what was written.")] = False,
) -> None:
    """Train on images streamed from S3, checkpoint there, be killed, resume, and end at exactly the same loss.

    Without options it starts a server of its own, needs no account and leaves nothing behind. The exit status is 0 only
    if the resumed training equals the uninterrupted one to the last bit.
    """
    from s3torch.harness.demo.settings import Settings, check_settings

    settings = Settings(uri, endpoint, region, profile, engine, epochs, workers, samples, keep)
    try:
        check_settings(settings)
    except ValueError as error:
        _complain(str(error))
        raise typer.Exit(_BAD_ARGUMENT) from None
    raise typer.Exit(_run(settings))


def _run(settings: Settings) -> int:
    """Run the demo; return the exit status."""
    from rich.console import Console

    from s3torch.client import S3Exception
    from s3torch.harness.demo.process import DemoError
    from s3torch.harness.demo.scenario import run_demo
    from s3torch.harness.demo.view import View
    from s3torch.harness.servers import ServerError

    try:
        with clean_up_on_sigterm():
            return 0 if run_demo(settings, View(Console())) else _FAILED
    except (DemoError, ServerError, S3Exception) as error:
        _complain(str(error))
        return _FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED


def _complain(message: str) -> None:
    sys.stderr.write(f"s3torch demo: {message}\n")
