"""``s3torch bench``: the options, their check, and what becomes of errors and Ctrl-C.

Importing it costs next to nothing; what it needs is imported when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from s3torch.harness._command_line import run_program
from s3torch.harness._options import parse_size
from s3torch.harness._signals import INTERRUPTED, clean_up_on_sigterm

__all__ = ["command", "main"]

_FAILED = 1
_LEAST_SIZE = 2**20

# typer reads these at run time, and on Python 3.10 wants Optional rather than `str | None`.
_OptionalText = Optional[str]  # noqa: UP045
_OptionalTexts = Optional[list[str]]  # noqa: UP045
_OptionalPath = Optional[Path]  # noqa: UP045


def command(
    scenarios: Annotated[
        _OptionalTexts, typer.Argument(metavar="[SCENARIO]...", help="Only these; --list shows them.")
    ] = None,
    scenario: Annotated[_OptionalTexts, typer.Option(help="The same, as an option.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and exit.")] = False,
    uri: Annotated[
        _OptionalText,
        typer.Option(metavar="s3://BUCKET/PREFIX", help="Measure your own bucket, under a random prefix."),
    ] = None,
    endpoint: Annotated[_OptionalText, typer.Option(metavar="URL", help="Your S3-compatible store.")] = None,
    region: Annotated[_OptionalText, typer.Option(help="Its region; else the environment's.")] = None,
    profile: Annotated[_OptionalText, typer.Option(help="Profile of the shared AWS configuration.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before using your bucket.")] = False,
    size: Annotated[
        _OptionalText,
        typer.Option(
            metavar="SIZE", help="Of each large object, such as 256MiB; else 1 GiB, and 256 MiB in your bucket."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(help="Measured runs of each subject, after a warm-up.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Small objects, one run: does everything work?")] = False,
    peers: Annotated[bool, typer.Option(help="Measure the peers too.")] = True,
    html: Annotated[_OptionalPath, typer.Option(metavar="FILE", help="Write a report with charts.")] = None,
    json_file: Annotated[
        _OptionalPath, typer.Option("--json", metavar="FILE", help="Write everything measured.")
    ] = None,
    history: Annotated[
        _OptionalPath,
        typer.Option(metavar="FOLDER", help="Keep runs here and compare with earlier ones; else in the user's cache."),
    ] = None,
    no_history: Annotated[bool, typer.Option("--no-history", help="Neither keep nor compare.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where one of ours fails, misses a requirement or has become worse."),
    ] = False,
) -> int:
    """Measure reading and writing S3 beside the floor of plain sockets and the peers.

    Without --uri it measures on servers of its own. With it, it says first what it will store and transfer in your
    bucket, asks, and removes everything at the end.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    from s3torch.client import S3Exception
    from s3torch.harness.bench.contents import WrongBytesError
    from s3torch.harness.bench.own import OwnBucketError
    from s3torch.harness.bench.process import SubjectError
    from s3torch.harness.bench.run import BenchmarkRun, Files, UsageError
    from s3torch.harness.servers import ServerError

    try:
        with clean_up_on_sigterm():
            run = BenchmarkRun(
                names=[*(scenarios or ()), *(scenario or ())],
                uri=uri,
                endpoint=endpoint,
                region=region,
                profile=profile,
                size=None if size is None else _read_size(size),
                repeat=repeat,
                is_quick=quick,
                has_peers=peers,
                asks=not yes,
                is_strict=strict,
                is_listing=list_,
                files=Files(html, json_file, history, keeps=not no_history),
            )
            return run.show_list() if list_ else run.run()
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    except (
        *(OwnBucketError, ServerError, S3Exception, SubjectError, WrongBytesError, OSError),
        *(Boto3Error, BotoCoreError, ClientError),
    ) as error:
        _complain(str(error))
        return _FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED


def _read_size(text: str) -> int:
    try:
        size = parse_size("--size", text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if size < _LEAST_SIZE:
        raise typer.BadParameter(f"--size must be at least 1 MiB, got {text!r}")
    return size


def main() -> int:
    """Run ``python -m s3torch.harness.bench``, with mistakes in one line.

    Returns:
        The exit status.
    """
    return run_program(command, "s3torch bench")


def _complain(message: str) -> None:
    sys.stderr.write(f"s3torch bench: {' '.join(message.split())}\n")
