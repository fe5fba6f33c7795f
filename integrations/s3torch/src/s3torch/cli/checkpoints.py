"""The command ``s3torch checkpoints``: look after a folder of distributed checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from s3torch.dcp.catalog import CheckpointEntry, Leftover, S3CheckpointCatalog

__all__ = ["command"]

# typer reads these at run time, and on Python 3.10 wants Optional rather than `str | None`.
_OptionalText = Optional[str]  # noqa: UP045
_OptionalNumber = Optional[int]  # noqa: UP045

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"([0-9]+)([smhd])")


class Action(str, Enum):
    """What to do."""

    list = "list"
    latest = "latest"
    prune = "prune"
    delete = "delete"
    leftovers = "leftovers"


def command(
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    uri: Annotated[str, typer.Argument(metavar="s3://BUCKET/PREFIX", help="The folder of checkpoints.")],
    name: Annotated[_OptionalText, typer.Argument(help="delete: the checkpoint.", show_default=False)] = None,
    keep_last: Annotated[_OptionalNumber, typer.Option(help="prune: keep so many of the newest.")] = None,
    keep_every: Annotated[_OptionalNumber, typer.Option(help="prune: keep steps that are multiples, too.")] = None,
    allow_newest: Annotated[bool, typer.Option("--allow-newest", help="delete: even the newest.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="leftovers: delete them.")] = False,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="leftovers: such as 90m, 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    endpoint: Annotated[_OptionalText, typer.Option(metavar="URL", help="Your S3-compatible store.")] = None,
    region: Annotated[_OptionalText, typer.Option(help="Its region; else the environment's.")] = None,
    profile: Annotated[_OptionalText, typer.Option(help="Profile of the shared AWS configuration.")] = None,
) -> None:
    """List, prune and delete distributed checkpoints in S3, and find what interrupted saves have left.

    Only committed checkpoints count, and the newest is never pruned. `latest` prints nothing but its address, for
    scripts, and fails where there is none.
    """
    catalog = _open(uri, endpoint, region, profile)
    try:
        if action is Action.list:
            _show_entries(catalog.list(), catalog.uri)
        elif action is Action.latest:
            _print_latest(catalog)
        elif action is Action.prune:
            _prune(catalog, keep_last, keep_every, ask=not yes, dry_run=dry_run)
        elif action is Action.delete:
            _delete(catalog, name, allow_newest=allow_newest, ask=not yes, dry_run=dry_run)
        else:
            _show_leftovers(catalog, _parse_age(older_than), remove=remove and not dry_run, ask=not yes)
    except (ValueError, LookupError) as error:
        raise typer.BadParameter(str(error)) from error


def _open(uri: str, endpoint: str | None, region: str | None, profile: str | None) -> S3CheckpointCatalog:
    from s3torch.client import S3ClientConfig

    try:
        from s3torch.dcp.catalog import S3CheckpointCatalog
    except ImportError as error:
        from s3torch.cli.commands import MissingCommandError

        raise MissingCommandError(
            f"the command 'checkpoints' cannot be loaded ({error}); run: pip install 's3torch[dcp]'"
        ) from error
    try:
        config = S3ClientConfig(profile=profile)
        return S3CheckpointCatalog(uri, region, endpoint=endpoint, s3client_config=config)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _print_latest(catalog: S3CheckpointCatalog) -> None:
    latest = catalog.latest()
    if latest is None:
        _complain(f"there is no checkpoint in {catalog.uri}")
    else:
        typer.echo(latest.uri)


def _prune(
    catalog: S3CheckpointCatalog, keep_last: int | None, keep_every: int | None, *, ask: bool, dry_run: bool
) -> None:
    outdated = catalog.prune(keep_last, keep_every, dry_run=True)
    if not outdated or dry_run:
        _show_entries(outdated, "To be removed")
        return
    if ask:
        _show_entries(outdated, "To be removed")
        typer.confirm(f"Remove {_count(outdated, 'checkpoint')}?", abort=True)
    _show_entries(catalog.prune(keep_last, keep_every), "Removed")


def _delete(catalog: S3CheckpointCatalog, name: str | None, *, allow_newest: bool, ask: bool, dry_run: bool) -> None:
    from s3torch.dcp.errors import CheckpointError

    if name is None:
        raise typer.BadParameter("delete needs the name of a checkpoint")
    if dry_run:
        _show_entries([entry for entry in catalog.list() if entry.name == name], "To be removed")
        return
    if ask:
        typer.confirm(f"Remove the checkpoint {name!r} in {catalog.uri}?", abort=True)
    try:
        _show_entries([catalog.delete(name, allow_newest=allow_newest)], "Removed")
    except CheckpointError as error:
        _complain(str(error))


def _show_leftovers(catalog: S3CheckpointCatalog, older_than: timedelta, *, remove: bool, ask: bool) -> None:
    found = catalog.leftovers(older_than)
    _show_items(found, f"Leftovers in {catalog.uri}")
    if not found or not remove:
        return
    if ask:
        typer.confirm(f"Remove {_count(found, 'leftover')}?", abort=True)
    _show_items(catalog.remove_leftovers(older_than), "Removed")


def _show_entries(entries: Sequence[CheckpointEntry], title: str) -> None:
    _show(
        title,
        ["name", "step", "committed (UTC)"],
        [[entry.name, "" if entry.step is None else str(entry.step), f"{entry.committed:%F %T}"] for entry in entries],
        _count(entries, "checkpoint"),
    )


def _show_items(items: Sequence[Leftover], title: str) -> None:
    _show(
        title,
        ["object", "bytes", "written (UTC)"],
        [
            [item.uri, "unfinished upload" if item.size is None else f"{item.size:,}", f"{item.modified:%F %T}"]
            for item in items
        ],
        f"{_count(items, 'leftover')}, {sum(item.size or 0 for item in items):,} bytes",
    )


def _show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], total: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if rows:
        table = Table(title=Text(title), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, overflow="fold", justify="right" if number == 1 else "left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # names may look like markup
        console.print(table)
    console.print(Text(total))


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}" if items else f"no {noun}s"


def _parse_age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"not an age: {text!r}; expected a number and s, m, h or d, such as 24h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _complain(message: str) -> None:
    typer.echo(f"s3torch: {message}", err=True)
    raise typer.Exit(1)
