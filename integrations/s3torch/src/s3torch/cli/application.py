"""The command line: arguments in, exit status out, every mistake in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any, Protocol, runtime_checkable

import typer

from s3torch.cli.commands import MissingCommandError, Remedy, find_commands, load_command

__all__ = ["main"]

_USAGE = 2  # exit status for a command line that cannot be run, by the shells' convention
_INTERRUPTED = 130  # 128 + SIGINT, by the same


@runtime_checkable
class _CommandLineError(Protocol):
    """What the parser raises for a wrong command line, whichever click typer brings along."""

    exit_code: int

    def format_message(self) -> str:
        """Return what is wrong."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: What follows the program's name; None takes ``sys.argv``.

    Returns:
        The exit status: 0, 2 for a command line that cannot be run, 130 after Ctrl-C, else the command's own or 1.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _application(given)(given, prog_name="s3torch", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", _INTERRUPTED)
    except typer.Exit as error:
        return error.exit_code
    except MissingCommandError as error:
        return _complain(str(error), _USAGE)
    except Exception as error:
        if isinstance(error, _CommandLineError):
            said = error.format_message().rstrip(".")
            context = getattr(error, "ctx", None)
            return _complain(f"{said}. Try `{context.command_path if context else 's3torch'} --help`.", error.exit_code)
        if _is_of_s3(error):
            return _complain(str(error), 1)
        raise
    return status if isinstance(status, int) else 0


def _application(given: Sequence[str]) -> Callable[..., Any]:
    """Build the parser with the command asked for, or with all for the list of them."""
    application = typer.Typer(
        help="PyTorch on S3.",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    application.callback(invoke_without_command=True)(_top)
    commands = find_commands()
    asked = next((name for name in given if not name.startswith("-")), None)
    for name, source in commands.items():
        if name == asked:
            application.command(name)(load_command(name, source))
        else:
            application.command(name, help=None if asked in commands else _summary(name, source))(_never)
    return application


def _summary(name: str, source: Any) -> str:
    """Return one line on a command, at worst why it cannot be used."""
    if isinstance(source, Remedy):
        # The backslash keeps the brackets of an extra out of the markup that help texts may have.
        return f"{source.summary} (not installed: {source.install})".replace("[", "\\[")
    try:
        return (load_command(name, source).__doc__ or "").strip().split("\n\n")[0]
    except MissingCommandError as error:
        return str(error)


def _never() -> None:
    """Stand for a command in the list of commands."""


def _top(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(f"s3torch {version('s3torch')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _is_of_s3(error: Exception) -> bool:
    # Imported only now: an error of S3 has it imported already, and any other start-up need not pay for it.
    from s3torch.client import S3Exception

    return isinstance(error, S3Exception)


def _complain(message: str, status: int) -> int:
    typer.echo(f"s3torch: {' '.join(message.split())}", err=True)
    return status
