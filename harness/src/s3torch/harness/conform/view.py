"""What the command shows: progress while it runs, and then a table for each subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from s3torch.harness.conform.events import Case, Collected, Ended, Event, Started
from s3torch.harness.conform.settings import Run, Settings
from s3torch.harness.conform.verdict import Law, Verdicts

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["RunProgress", "show_details", "show_lacking", "show_laws"]

_STYLES = {"held": "green", "broken": "bold red", "skipped": "yellow", "not run": "bold red"}


class RunProgress:
    """A bar on a terminal; elsewhere a line for each law that breaks. A context manager.

    Args:
        console: Where to show it.
        run: What runs.
    """

    def __init__(self, console: Console, run: Run) -> None:
        self._console = console
        self._verdicts: Verdicts | None = None
        self._title = str(run)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[law]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(self._title, total=None, law="starting")

    def __enter__(self) -> Self:
        if not self._console.is_terminal:
            self.say(f"{self._title} ...")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def follow(self, event: Event, verdicts: Verdicts) -> None:
        """Show what an event has changed.

        Args:
            event: The event.
            verdicts: What is known, the event included.
        """
        if isinstance(event, Collected):
            self._bar.update(self._task, total=verdicts.total)
        elif isinstance(event, Started):
            self._bar.update(self._task, law=verdicts.case(event.id).law)
        elif isinstance(event, Ended):
            self._bar.update(self._task, completed=len(verdicts.judged))
            if event.verdict == "broken":
                self._announce(verdicts.case(event.id), event)

    def _announce(self, case: Case, ended: Ended) -> None:
        self.say(f"broken: {case.subject}: {case.law}: {ended.reason}")

    def say(self, line: str) -> None:
        """Show a line.

        Args:
            line: The line.
        """
        self._console.print(Text(line), soft_wrap=True)


def show_laws(console: Console, run: Run, laws: Sequence[Law]) -> None:
    """Show a table for each subject of a run.

    Args:
        console: Where to show it.
        run: The run.
        laws: Its laws.
    """
    for subject in dict.fromkeys(law.subject for law in laws):
        title = str(run) if subject.startswith("engine ") else f"{subject} with {run}"
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        table.add_column("verdict", no_wrap=True)
        table.add_column("law", overflow="fold", ratio=1)
        found = [law for law in laws if law.subject == subject]
        for law in found:
            said = Text(law.name, style="bold").append(f": {law.sentence}", style="not bold")
            if law.reason:
                said.append(f"\n{law.reason}", style=f"not bold {_STYLES[law.verdict].removeprefix('bold ')}")
            table.add_row(Text(law.verdict, style=_STYLES[law.verdict]), said)
        console.print(table)
        console.print(Text(f"{subject}: {_count(found)}\n"), soft_wrap=True)


def show_lacking(console: Console, store: str, laws: Sequence[Law]) -> None:
    """Show what a server lacks: the laws that do not hold on it whatever engine talks to it.

    Args:
        console: Where to show it.
        store: The server.
        laws: The laws.
    """
    if not laws:
        console.print(Text(f"{store}: no law fails, or cannot be tried, with every engine."), soft_wrap=True)
        return
    console.print(Text(f"{store}, whatever engine talks to it:"), soft_wrap=True)
    for law in laws:
        is_broken = law.verdict == "broken"
        line = f"{'broken' if is_broken else 'not tried'}: {law.name}: {law.sentence if is_broken else law.reason}"
        console.print(Text(f"  {line}"), soft_wrap=True)


def show_details(console: Console, settings: Settings, laws: Sequence[Law]) -> None:
    """Show the reports of broken laws where laws were chosen, else the command that does.

    Args:
        console: Where to show it.
        settings: What was asked for.
        laws: All laws that were run.
    """
    broken = [law for law in laws if law.verdict == "broken"]
    if not broken:
        return
    if not settings.laws:
        kind, _, name = broken[0].subject.partition(" ")
        again = replace(settings, readers=(name,), writer=None) if kind == "reader" else settings
        console.print(Text(f"Details of a broken law: {again.command(laws=[broken[0].name])}"), soft_wrap=True)
        return
    for law in broken:
        for details in law.details:
            console.rule(Text(f"{law.subject}: {law.name}"))
            console.print(Text(details), soft_wrap=True)


def _count(laws: Sequence[Law]) -> str:
    verdicts = [law.verdict for law in laws]
    shown = ["held", "broken", "skipped", *(["not run"] if "not run" in verdicts else [])]
    return f"{len(laws)} laws: {', '.join(f'{verdicts.count(verdict)} {verdict}' for verdict in shown)}"
