"""The pytest plugin in the process that runs the suites: it chooses the laws, and tells what becomes of them."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from s3torch.harness.conform.events import Case, Collected, Ended, Event, Started, Stopped, encode
from s3torch.harness.conform.settings import law_name, law_sentence

_LONGEST_REASON = 200
_REASON = "conform-reason"
_END_SECONDS = 20.0

# Before pytest puts others in their places: this module is imported earlier than that begins.
_out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
_lifeline = os.dup(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the command asks for."""
    parser.addoption("--conform-law", action="append", default=[])
    parser.addoption("--conform-done", metavar="FILE", default=None)


def pytest_configure() -> None:
    """End when the command is gone, whatever became of it."""
    threading.Thread(target=_end_with_command, name="lifeline", daemon=True).start()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the laws that were asked for and have not been judged yet."""
    wanted = {law_name(name) for name in config.getoption("--conform-law")}
    known = {_law(item) for item in items}
    for name in sorted(wanted - known):
        near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise pytest.UsageError(f"--law {name}: there is no such law{hint}")
    file = config.getoption("--conform-done")
    done = set(Path(file).read_text(encoding="utf-8").splitlines()) if file else set()
    items[:] = [item for item in items if (not wanted or _law(item) in wanted) and item.nodeid not in done]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell what will be run."""
    _tell(Collected([Case(item.nodeid, _subject(item), _law(item), _sentence(item)) for item in session.items]))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell why nothing can be run."""
    if report.failed:
        _tell(Stopped(_one_line(report.longreprtext.strip().splitlines()[-1])))


def pytest_runtest_logstart(nodeid: str) -> None:
    """Tell that a case begins."""
    _tell(Started(nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of the exception itself: a report has it only as text."""
    report = yield
    if report.failed and call.excinfo is not None:
        report.user_properties.append((_REASON, _reason(call.excinfo.value)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell what became of a case: of its clean-up only if that failed."""
    if report.failed:
        reason = dict(report.user_properties).get(_REASON, report.longreprtext)
        _tell(Ended(report.nodeid, "broken", _one_line(str(reason)), report.longreprtext))
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        _tell(Ended(report.nodeid, "skipped", _one_line(reason.removeprefix("Skipped: "))))
    elif report.when == "call":
        _tell(Ended(report.nodeid, "held"))


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Tell why a fixture gave up; and let nothing interrupt the clean-up, as the command sends SIGINT repeatedly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if isinstance(excinfo.value, pytest.exit.Exception):
        _tell(Stopped(_one_line(str(excinfo.value))))


def _tell(event: Event) -> None:
    try:
        _out.write(encode(event))
    except BrokenPipeError:  # nobody listens any more: the run is about to end
        pass


def _law(item: pytest.Item) -> str:
    return law_name(getattr(item, "originalname", item.name))


def _subject(item: pytest.Item) -> str:
    """Name what a case puts to the test."""
    kind = getattr(getattr(item, "cls", None), "subject", "subject")
    option = item.config.option
    if kind == "reader":
        # The reader's name opens the case's, whatever else it is run with.
        names = sorted(option.s3_reader, key=len, reverse=True)
        return f"reader {next((name for name in names if f'[{name}' in item.name), '')}"
    return f"writer {option.s3_writer}" if kind == "writer" else f"engine {option.s3_engine}"


def _sentence(item: pytest.Item) -> str:
    return law_sentence(getattr(item, "function", None))


def _reason(error: BaseException) -> str:
    """Say in a line what was raised: of several exceptions the first; what follows the first line are details."""
    while members := getattr(error, "exceptions", None):
        error = members[0]
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def _end_with_command() -> None:
    """Wait for the end of the pipe that the command holds open; then let the run end as on Ctrl-C, and clean up."""
    while os.read(_lifeline, 4096):
        pass
    if sys.platform == "win32":
        os._exit(1)
    for _ in range(int(_END_SECONDS)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(1)
    os._exit(1)
