"""A child process that tells what it does."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest
from harness.tests.processes import is_alive, still_there

from s3torch.harness._child import ChildProcess
from s3torch.harness.demo.process import DemoError, WorkerProcess
from s3torch.harness.soak.process import HangError, LoadProcess

WAITS = "import time; time.sleep(60)"
LINGERS = f"import os; os.close(1); {WAITS}"


class Child(ChildProcess):
    """Python code, with what a child's users see of its lines."""

    def __init__(self, code: str) -> None:
        super().__init__([sys.executable, "-c", code], os.environ)

    def next_line(self, seconds: float = 30.0) -> str | None:
        """Return the next line, None at the end."""
        return self._next_line(seconds)

    def status(self, seconds: float) -> int:
        """Return the exit status."""
        return self._status(seconds)


class LingeringWorker(WorkerProcess):
    """A child of the demo that has said all, and does not end."""

    def __init__(self) -> None:
        ChildProcess.__init__(self, [sys.executable, "-c", LINGERS], os.environ)


class LingeringLoad(LoadProcess):
    """The same of a soak; it shows its stacks when asked."""

    def __init__(self) -> None:
        shows = "import faulthandler, signal; hasattr(signal, 'SIGUSR1') and faulthandler.register(signal.SIGUSR1)"
        ChildProcess.__init__(self, [sys.executable, "-c", f"{shows}; {LINGERS}"], os.environ)
        self._silence = 60.0


def test_lines_come_in_order_and_then_the_end() -> None:
    with Child("import sys; print('one'); print('zwö'); print('why', file=sys.stderr)") as child:
        assert child.next_line() == "one\n"
        assert (child.next_line() or "").startswith("zw")
        assert child.next_line() is None
        assert child.said() == "why"
        assert child.said(2) == "y"


def test_silence_has_a_deadline() -> None:
    with Child(WAITS) as child:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            child.next_line(0.3)
        assert time.monotonic() - started < 20


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to end what outlives a child")
def test_what_a_child_leaves_behind_delays_nobody_and_is_ended() -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {WAITS!r}]).pid)"
    started = time.monotonic()
    with Child(code) as child:
        left_behind = int(child.next_line() or "")
        assert child.next_line() is None  # though its pipe is held open
    assert time.monotonic() - started < 45
    assert still_there([left_behind], 30) == []


def test_closing_ends_it_and_may_be_repeated() -> None:
    child = Child(WAITS)
    child.close()
    child.close()
    assert not is_alive(child.pid)


def test_the_end_has_a_deadline() -> None:
    with Child("raise SystemExit(7)") as child:
        assert child.next_line() is None
        assert child.status(30) == 7
    with Child(LINGERS) as child:
        assert child.next_line() is None
        with pytest.raises(TimeoutError):
            child.status(0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "error"), [(LingeringWorker, DemoError), (LingeringLoad, HangError)])
def test_a_child_that_lingers_is_an_error_of_its_command(make: Any, error: type[Exception]) -> None:
    with make() as child, pytest.raises(error, match="does not end") as caught:
        list(child.events())
    if make is LingeringLoad and sys.platform != "win32":
        assert "<string>" in str(caught.value)  # the stack
