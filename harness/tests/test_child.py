"""A child process that tells what it does."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from s3torch.harness._child import ChildProcess

WAITS = "import time; time.sleep(60)"


class Child(ChildProcess):
    """Python code, with what a child's users see of its lines."""

    def __init__(self, code: str) -> None:
        super().__init__([sys.executable, "-c", code], os.environ)

    def next_line(self, seconds: float = 30.0) -> str | None:
        """Return the next line, None at the end."""
        return self._next_line(seconds)


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
        assert time.monotonic() - started < 5


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to end what outlives a child")
def test_what_a_child_leaves_behind_delays_nobody_and_is_ended() -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {WAITS!r}]).pid)"
    started = time.monotonic()
    with Child(code) as child:
        left_behind = int(child.next_line() or "")
        assert child.next_line() is None  # though its pipe is held open
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 10
    while _runs(left_behind):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_closing_ends_it_and_may_be_repeated() -> None:
    child = Child(WAITS)
    child.close()
    child.close()
    assert not _runs(child.pid)


def _runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
