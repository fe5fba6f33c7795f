"""Sub-commands by entry point: a distribution adds one with a function in the group ``s3torch.commands``.

The function's parameters become arguments and options as typer reads them, its docstring the help. Importing its
module should cost little, since the list of commands imports them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

__all__ = ["GROUP", "MissingCommandError", "Remedy", "find_commands", "load_command"]

GROUP = "s3torch.commands"


@dataclass(frozen=True, slots=True)
class Remedy:
    """A command that another distribution supplies, for when that is not installed."""

    summary: str
    """What the command does."""
    install: str
    """The command line that installs it."""


# The commands this project knows of.
KNOWN = {
    "bench": Remedy("Measure speed and cost beside plain sockets and peers.", "pip install 's3torch-harness[bench]'"),
    "conform": Remedy("Put a reader, a writer, an engine or a server to the test.", "pip install s3torch-harness"),
    "demo": Remedy("Train on a dataset in S3, checkpoint there, stop and resume.", "pip install 's3torch[demo]'"),
}


class MissingCommandError(Exception):
    """A command exists, but cannot be used here; the message says how to change that."""


def find_commands() -> dict[str, EntryPoint | Remedy]:
    """Return the commands by name: those installed, and the remedies for known ones that are not."""
    found: dict[str, EntryPoint | Remedy] = dict(KNOWN)
    found.update({entry.name: entry for entry in entry_points(group=GROUP)})
    return dict(sorted(found.items()))


def load_command(name: str, source: EntryPoint | Remedy) -> Callable[..., object]:
    """Import a command.

    Args:
        name: Its name.
        source: Where it comes from.

    Returns:
        The function to run.

    Raises:
        MissingCommandError: It is not installed, or something it needs is not.
    """
    if isinstance(source, Remedy):
        raise MissingCommandError(f"the command {name!r} is not installed; run: {source.install}")
    try:
        command = source.load()
    except ImportError as error:
        remedy = f"; run: {KNOWN[name].install}" if name in KNOWN else ""
        raise MissingCommandError(f"the command {name!r} cannot be loaded ({error}){remedy}") from error
    if not callable(command):
        raise MissingCommandError(f"the command {name!r} is no function: {source.value}")
    return command  # type: ignore[no-any-return]  # an entry point may be anything; callable is all there is to check
