"""Runs one function as a program: whatever is wrong with its arguments is one line on standard error and status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from s3torch.harness._signals import INTERRUPTED, clean_up_on_sigterm
from s3torch.harness.servers import ServerError

__all__ = ["run_program"]

_FAILED, _USAGE = 1, 2


def run_program(function: Callable[..., Any], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a program; SIGTERM ends it by way of all clean-up.

    Args:
        function: What typer makes a command of; it returns its exit status, or None for 0.
        name: The program's name in messages.
        arguments: What follows the program's name; None takes ``sys.argv``.

    Returns:
        The exit status: 1 where a server failed, 2 for arguments that cannot be, 130 after Ctrl-C, else the function's
        own.
    """
    application = typer.Typer(
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    application.command()(function)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with clean_up_on_sigterm():
            status = application(given, prog_name=name, standalone_mode=False)
    except ServerError as error:
        return _complain(name, str(error), _FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _complain(name, "interrupted", INTERRUPTED)
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        # The class is the parser's, which typer does not name.
        said = getattr(error, "format_message", None)
        if said is None:
            raise
        return _complain(name, f"{said().rstrip('.')}. Try `{name} --help`.", _USAGE)
    return status if isinstance(status, int) else 0


def _complain(name: str, message: str, status: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(message.split())}\n")
    return status
