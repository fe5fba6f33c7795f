"""What the user sees: live progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["Bar", "View"]


class Bar:
    """A progress bar, or nothing where there is no terminal.

    Args:
        progress: rich's display; None shows nothing.
        task: The bar in it.
    """

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, note: str) -> None:
        """Show how far it is.

        Args:
            done: How much is done.
            note: Shown behind the bar.
        """
        if self._progress is not None:
            self._progress.update(self._task, completed=done, note=note)


class View:
    """Writes to a console.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def heading(self, text: str) -> None:
        """Begin a part of the story."""
        self._print("")
        self._print(text, style="bold cyan")

    def say(self, text: str, *, style: str | None = None) -> None:
        """Write one line.

        Args:
            text: The line.
            style: rich style.
        """
        self._print(f"  {text}", style=style)

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Bar]:
        """Show a progress bar while the block lasts.

        Args:
            label: Shown before the bar.
            total: What completes it.

        Yields:
            The bar.
        """
        if not self._console.is_terminal:
            yield Bar(None, TaskID(0))
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            yield Bar(progress, progress.add_task(label, total=total, note=""))

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table.

        Args:
            title: Its title.
            head: Names of the columns.
            rows: The cells.
        """
        table = Table(title=title, title_justify="left", title_style="bold cyan")
        for index, name in enumerate(head):
            table.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._print("")
        self._console.print(table)

    def _print(self, text: str, *, style: str | None = None) -> None:
        # Never wrapped or interpreted: lines hold paths, URIs and error messages.
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
