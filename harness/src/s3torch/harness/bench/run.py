"""One run of the benchmark: choose, ask, measure, show, compare, keep."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from s3torch.harness.bench import figures, own
from s3torch.harness.bench.environments import cache_folder
from s3torch.harness.bench.history import LOCAL, Record, append, load, write_record, write_whole
from s3torch.harness.bench.html import render
from s3torch.harness.bench.machine import describe_machine
from s3torch.harness.bench.place import Place
from s3torch.harness.bench.progress import Progress
from s3torch.harness.bench.regressions import Change, Kind, compare, count_compared
from s3torch.harness.bench.report import print_changes, print_outcome, print_verdicts, to_record
from s3torch.harness.bench.results import Outcome
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenario import Role, Scenario
from s3torch.harness.bench.scenarios import ALL_SCENARIOS

_WIDTH = 200


class UsageError(ValueError):
    """The command line cannot be run; the message is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where figures are written."""

    html: Path | None = None
    """The report with charts."""
    json: Path | None = None
    """The record."""
    history: Path | None = None
    """The folder of earlier records; None is in the user's cache."""
    keeps: bool = True
    """Whether the run is compared with the history, and added to it."""

    @property
    def history_folder(self) -> Path:
        """The history's folder."""
        return self.history or cache_folder() / "history"

    def check(self, *, is_quick: bool) -> None:
        """Find out before anything is measured whether it can be written.

        Args:
            is_quick: Whether the figures mean nothing.

        Raises:
            UsageError: It cannot.
        """
        if self.history is not None and not self.keeps:
            raise UsageError("--history and --no-history exclude each other")
        for option, path in (("--html", self.html), ("--json", self.json)):
            if path is None:
                continue
            if path.is_dir():
                raise UsageError(f"{option} {path} is a folder; name a file")
            if path.exists() and not path.is_file():
                raise UsageError(f"{option} {path} is no file; name one, or one that is still to be written")
            folder = path.resolve().parent
            if not folder.is_dir():
                raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
            if not _is_writable(folder):
                raise UsageError(f"{option} {path} cannot be written: the folder {folder} takes no new file")
        if self.is_history_written(is_quick=is_quick):
            folder = self.history_folder
            nearest = next(each for each in (folder, *folder.parents) if each.exists())
            if not nearest.is_dir():
                raise UsageError(f"--history {folder}: {nearest} is a file; name a folder")
            if not _is_writable(nearest):
                raise UsageError(f"the history {folder} cannot be written; name another by --history, or --no-history")

    def is_history_written(self, *, is_quick: bool) -> bool:
        """Whether the run is kept; what means nothing only where the user has named the place."""
        return self.keeps and (not is_quick or self.history is not None)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """What the command line asks for.

    Raises:
        UsageError: It cannot be.
    """

    names: Sequence[str] = ()
    """Only these scenarios; none means all."""
    uri: str | None = None
    """The user's own bucket, and a prefix."""
    endpoint: str | None = None
    """Its store."""
    region: str | None = None
    """Its region."""
    profile: str | None = None
    """Its profile."""
    size: int | None = None
    """Bytes of each large object."""
    repeat: int = 5
    """Measured runs of each subject."""
    is_quick: bool = False
    """Small objects, one run."""
    has_peers: bool = True
    """Whether the peers are measured."""
    asks: bool = True
    """Whether the user is asked before the bucket is used."""
    is_strict: bool = False
    """Whether what fails of ours, is missed or is worse makes it fail."""
    is_listing: bool = False
    """Whether the scenarios are only listed."""
    files: Files = field(default_factory=Files)
    """Where figures are written."""

    def __post_init__(self) -> None:
        """Check everything that can be checked before anything starts."""
        if not 1 <= self.repeat <= 1000:
            raise UsageError(f"--repeat must be 1 to 1000, got {self.repeat}")
        known = [each.name for each in ALL_SCENARIOS]
        for name in self.names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise UsageError(f"no scenario {name!r}; {f'perhaps {near[0]!r}' if near else 'see --list'}")
        if self.uri is None:
            for option in ("endpoint", "region", "profile"):
                if getattr(self, option) is not None:
                    raise UsageError(f"--{option} needs --uri; without it servers are started on this machine")
        else:
            _ = self._bucket
            if self.asks and not self.is_listing and not sys.stdin.isatty():
                raise UsageError("--uri asks before it uses your bucket; give --yes where nobody can answer")
        if not self.is_listing:
            self.files.check(is_quick=self.is_quick)

    @property
    def _bucket(self) -> own.OwnBucket:
        assert self.uri is not None
        try:
            return own.OwnBucket(self.uri, self.endpoint, self.region, self.profile)
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def _settings(self) -> Settings:
        size = own.DEFAULT_SIZE if self.size is None and self.uri is not None else self.size
        return Settings(1 if self.is_quick else self.repeat, self.is_quick, self.has_peers, size)

    def show_list(self) -> int:
        """Print the scenarios; with a URI those that can be run there."""
        chosen = ALL_SCENARIOS
        if self.uri is not None:
            is_tls = own.find_endpoint(self._bucket).startswith("https:")
            chosen = tuple(own.choose(chosen, is_tls=is_tls))
        table = Table(box=None, pad_edge=False)
        table.add_column("scenario", no_wrap=True, style="bold")
        table.add_column("what is measured")
        for scenario in chosen:
            table.add_row(scenario.name, scenario.title)
        _console().print(table)
        return 0

    def run(self) -> int:
        """Measure, show and keep.

        Returns:
            The exit status.
        """
        console = _console()
        if self.uri is None:
            return self._finish(self._measure(self._chosen(ALL_SCENARIOS), LOCAL, console), LOCAL, console)
        session = own.open_bucket(self._bucket)
        scenarios = self._chosen(own.choose(ALL_SCENARIOS, is_tls=session.is_tls))
        if not scenarios:
            raise UsageError(f"none of {', '.join(self.names)} can be run on your own bucket; see --list --uri ...")
        self._ask(session, scenarios, console)
        with own.cleaned_up(session, lambda line: console.print(line, markup=False, highlight=False)):
            outcomes = self._measure(scenarios, session.name, console, session.place)
            return self._finish(outcomes, session.name, console)

    def _chosen(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        return [each for each in scenarios if not self.names or each.name in self.names]

    def _ask(self, session: own.Session, scenarios: Sequence[Scenario], console: Console) -> None:
        bill = own.estimate(scenarios, self._settings)
        number = f"{len(scenarios)} scenario{'s' * (len(scenarios) != 1)}"
        console.print(
            f"{number} under {session.uri} at {session.place.endpoint}: stores up to {figures.size(bill.stored)}, "
            f"uploads about {figures.size(bill.uploaded)} and downloads about {figures.size(bill.downloaded)} in about "
            f"{bill.requests:,} requests, for which your provider may charge "
            "you. Everything is removed at the end; a bucket with versioning keeps what it keeps.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        if self.asks:
            import typer

            typer.confirm("Go on?", abort=True)

    def _measure(
        self, scenarios: Sequence[Scenario], store: str, console: Console, place: Place | None = None
    ) -> list[Outcome]:
        settings = self._settings
        console.print(f"{describe_machine()}; medians of {settings.repeat} after a warm-up, subjects taking turns.\n",
                      highlight=False, soft_wrap=True)  # fmt: skip
        outcomes: list[Outcome] = []
        progress = Progress(Console(stderr=True), len(scenarios))
        with Runner(settings, progress.say, place=place) as runner:
            for number, scenario in enumerate(scenarios, 1):
                with progress.scenario(scenario.name, len(scenario.entries) + settings.repeat):
                    outcome = runner.run(scenario)
                outcomes.append(outcome)
                print_outcome(outcome, console)
                # Now and not only at the end: whatever ends a run of hours leaves what it had measured.
                self._write(self._record(outcomes, store), [], [])
                runner.keep_for(scenarios[number:])
        return outcomes

    def _record(self, outcomes: Sequence[Outcome], store: str) -> Record:
        return to_record(
            outcomes,
            made=datetime.now(timezone.utc),
            machine=describe_machine(),
            repeat=self._settings.repeat,
            store=store,
            is_quick=self.is_quick,
        )

    def _finish(self, outcomes: Sequence[Outcome], store: str, console: Console) -> int:
        record = self._record(outcomes, store)
        earlier, problems = load(self.files.history_folder) if self.files.keeps else ([], [])
        for problem in problems:
            console.print(f"Passed over in the history: {problem}", style="yellow", markup=False)
        changes = compare(record, earlier)
        print_verdicts(outcomes, console, is_quick=self.is_quick)
        if not self.is_quick and self.files.keeps:
            print_changes(changes, count_compared(record, earlier), console, repeat=record.repeat)
        self._write(record, earlier, changes)
        if self.files.is_history_written(is_quick=self.is_quick):
            append(self.files.history_folder, record)
        return 1 if self.is_strict and _has_failed(outcomes, changes, is_quick=self.is_quick) else 0

    def _write(self, record: Record, earlier: Sequence[Record], changes: Sequence[Change]) -> None:
        if self.files.json is not None:
            write_record(self.files.json, record)
        if self.files.html is not None:
            write_whole(self.files.html, render(record, earlier, changes))


def _has_failed(outcomes: Sequence[Outcome], changes: Sequence[Change], *, is_quick: bool) -> bool:
    """Whether one of ours fails or, where figures mean something, misses what is required or has become worse."""
    if any(each.entry.role is Role.OURS and each.failure for outcome in outcomes for each in outcome.measured):
        return True
    missed = any(verdict.is_met is False for outcome in outcomes for verdict in outcome.verdicts)
    return not is_quick and (missed or any(change.kind is not Kind.BETTER for change in changes))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)
