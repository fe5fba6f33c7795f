"""Runs what was planned: again, without the case at fault, where code under test hangs or takes the process down."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from s3torch.harness.conform.events import Collected, Ended, Started, Stopped
from s3torch.harness.conform.process import PytestProcess, SilenceError
from s3torch.harness.conform.settings import Run, Settings, plan_runs
from s3torch.harness.conform.verdict import Verdicts, lacking
from s3torch.harness.conform.view import RunProgress, show_details, show_lacking, show_laws

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CannotRunError", "conform"]

# Each costs the time that a case may take, or a start.
_MOST_STARTS = 10
_USAGE_ERROR = 4  # pytest's exit status


class CannotRunError(RuntimeError):
    """What was asked for cannot be run; the message is one line that says why."""


def conform(settings: Settings, console: Console, progress: Console) -> bool:
    """Put the subjects to the test and show what became of the laws.

    Args:
        settings: The options, checked.
        console: Where to show results.
        progress: Where to show progress.

    Returns:
        Whether all laws hold that could be tried.

    Raises:
        CannotRunError: It cannot be run.
    """
    _prepare(settings, progress)
    runs: list[Verdicts] = []
    plan = plan_runs(settings)
    with _borrowed_bucket(settings) as empty:
        for run in plan:
            verdicts = Verdicts()
            with RunProgress(progress, run) as shown:
                _judge(run, settings, verdicts, shown, empty)
            runs.append(verdicts)
            show_laws(console, run, verdicts.laws)
            if settings.exit_first and verdicts.is_broken:
                break
        if len(runs) > 1:
            show_lacking(console, plan[0].store, lacking(runs))
        show_details(console, settings, [law for verdicts in runs for law in verdicts.laws])
    return not any(verdicts.is_broken for verdicts in runs)


def _prepare(settings: Settings, progress: Console) -> None:
    """Install what is missing, outside any deadline of a law."""
    if settings.server != "swift":
        return
    from s3torch.harness.servers import SwiftServer, SwiftUnavailableError

    try:
        with progress.status("Installing OpenStack Swift, if it is missing"):
            SwiftServer.install()
    except SwiftUnavailableError as error:
        raise CannotRunError(f"--server swift: {error}") from error


@contextlib.contextmanager
def _borrowed_bucket(settings: Settings) -> Iterator[Callable[[], None]]:
    """Take the user's only bucket, if it is empty, for as long as the command runs; yield what empties it again.

    The process that runs the suites does, unless a law takes it down.
    """
    if settings.endpoint is None or settings.bucket is None:
        yield lambda: None
        return
    from s3torch.harness.servers import EndpointServer

    store = EndpointServer(settings.endpoint, settings.bucket)

    def empty() -> None:
        with _needing_the_store():
            store.release(bucket)
            store.create_bucket(bucket)

    with _needing_the_store():
        store.start()
    try:
        bucket = store.create_bucket(settings.bucket)
        yield empty
    finally:
        with _needing_the_store():
            store.stop()


@contextlib.contextmanager
def _needing_the_store() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    from s3torch.harness.servers import ServerError

    try:
        yield
    except (BotoCoreError, ClientError, ServerError) as error:
        raise CannotRunError(f"--endpoint: {error}") from error


def _judge(
    run: Run, settings: Settings, verdicts: Verdicts, shown: RunProgress, empty_bucket: Callable[[], None]
) -> None:
    """Run the cases until each is judged, starting anew behind one that hangs or crashes."""
    arguments = [*run.arguments, *(["-x"] if settings.exit_first else [])]
    for law in settings.laws:
        arguments += ["--conform-law", law]
    for _ in range(_MOST_STARTS):
        try:
            empty_bucket()
            fault = _run_once(arguments, settings.timeout, verdicts, shown)
        except CannotRunError as error:
            if not verdicts.judged:
                raise
            shown.say(f"cannot go on: {error}")
            return
        if fault is None:
            return
        verdicts.judge(fault)
        shown.follow(fault, verdicts)
        if settings.exit_first or len(verdicts.judged) == verdicts.total:
            return


def _run_once(arguments: list[str], timeout: float, verdicts: Verdicts, shown: RunProgress) -> Ended | None:
    """Run the cases that are not judged yet; return the verdict on the one that the process did not survive."""
    running: str | None = None
    stopped = ""
    with PytestProcess(arguments, verdicts.judged, timeout) as process:
        try:
            for event in process.events():
                if isinstance(event, Collected):
                    verdicts.expect(event.cases)
                elif isinstance(event, Started):
                    running = event.id
                elif isinstance(event, Ended):
                    verdicts.judge(event)
                elif isinstance(event, Stopped):
                    stopped = event.reason
                shown.follow(event, verdicts)
            status = process.status()
        except SilenceError as error:
            if running is None:
                raise CannotRunError(f"the tests did not start: {error}") from error
            return Ended(running, "broken", _describe_silence(running, verdicts, error), process.said())
        said = process.said()
    if stopped or status == _USAGE_ERROR:
        raise CannotRunError(_as_options(stopped or _usage_error(said)))
    if status not in (0, 1):
        if running is None:
            raise CannotRunError(f"the tests ended with status {status} before they began: {said[-500:]}")
        return Ended(running, "broken", f"its process ended with status {status}", said)
    return None


def _describe_silence(running: str, verdicts: Verdicts, error: SilenceError) -> str:
    """Say what does not end: the case that ran last, what is to be done behind it, or the process."""
    judged = verdicts.judged
    if len(judged) == verdicts.total:
        return "the laws have been tried, and their process does not end"
    return f"its clean-up hangs: {error}" if running in judged else f"hangs: {error}"


def _usage_error(said: str) -> str:
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return lines[-1] if lines else said


def _as_options(message: str) -> str:
    """Name the command's options rather than those of the pytest plugin."""
    return " ".join(message.replace("--s3-", "--").split())
