"""What is going on, on stderr: a bar where somebody watches, otherwise a line for each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Shows one scenario after the other.

    Args:
        console: Where.
        scenarios: How many there will be.
    """

    def __init__(self, console: Console, scenarios: int) -> None:
        self._console = console
        self._scenarios = scenarios
        self._number = 0
        self._bar: tuple[RichProgress, TaskID] | None = None

    @contextmanager
    def scenario(self, name: str, steps: int) -> Iterator[None]:
        """Show a scenario while it is measured; the bar is gone when the block ends.

        Args:
            name: Its name.
            steps: How often ``say`` will be called, about.
        """
        self._number += 1
        heading = f"{self._number}/{self._scenarios} {name}"
        if not self._console.is_terminal:
            self._console.print(heading, markup=False, highlight=False)
            yield
            return
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(),
                   TextColumn("{task.fields[step]}", markup=False))  # fmt: skip
        with RichProgress(*columns, console=self._console, transient=True) as bar:
            self._bar = (bar, bar.add_task(heading, total=steps, step=""))
            try:
                yield
            finally:
                self._bar = None

    def say(self, line: str) -> None:
        """Take note of a step."""
        if self._bar is None:
            self._console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
            return
        bar, task = self._bar
        bar.update(task, advance=1, step=line.strip().splitlines()[0][:60] if line.strip() else "")
