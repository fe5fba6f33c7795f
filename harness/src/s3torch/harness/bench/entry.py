"""``s3torch bench``: the options, their check, and what becomes of errors and Ctrl-C.

Importing it costs next to nothing; what it needs is imported when it runs.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer

__all__ = ["command", "main"]

_FAILED = 1
_BAD_ARGUMENT = 2
_INTERRUPTED = 130
_TERMINATED = 143
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
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
        with _clean_up_on_sigterm():
            run = BenchmarkRun(
                names=[*(scenarios or ()), *(scenario or ())],
                uri=uri,
                endpoint=endpoint,
                region=region,
                profile=profile,
                size=None if size is None else parse_size(size),
                repeat=repeat,
                is_quick=quick,
                has_peers=peers,
                asks=not yes,
                is_strict=strict,
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
        return _INTERRUPTED


def parse_size(text: str) -> int:
    """Read a size such as ``256MiB``, ``1.5 GB`` or a number of bytes.

    Raises:
        typer.BadParameter: It is no size, or less than 1 MiB.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise typer.BadParameter(f"not a size: {text!r}; expected such as 256MiB or 1GB")
    size = int(float(match[1]) * unit)
    if size < _LEAST_SIZE:
        raise typer.BadParameter(f"--size must be at least 1 MiB, got {text!r}")
    return size


def main() -> int:
    """Run ``python -m s3torch.harness.bench``, with mistakes in one line.

    Returns:
        The exit status.
    """
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command(name="bench")(command)
    try:
        status = application(prog_name="python -m s3torch.harness.bench", standalone_mode=False)
    except typer.Abort:
        _complain("interrupted")
        return _INTERRUPTED
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        # The parser's errors, whichever click typer brings along.
        said = getattr(error, "format_message", None)
        if said is None:
            raise
        _complain(f"{said().rstrip('.')}. Try --help.")
        return _BAD_ARGUMENT
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def _clean_up_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program by way of all clean-up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def leave(_number: int, _frame: object) -> NoReturn:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(message: str) -> None:
    sys.stderr.write(f"s3torch bench: {' '.join(message.split())}\n")
