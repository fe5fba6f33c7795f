"""A function run as a program ends in an exit status and a line, whatever ends it."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from s3torch.harness._command_line import run_program
from s3torch.harness.servers import ServerError


def test_the_status_is_the_functions_own(capsys: pytest.CaptureFixture[str]) -> None:
    def work(number: int = 3) -> int:
        """Work."""
        return number

    assert run_program(work, "program", []) == 3
    assert run_program(work, "program", ["--number", "4"]) == 4
    assert run_program(work, "program", ["--number", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ServerError("it did not start:\nsaid this\nand that")

    assert run_program(fail, "program", []) == 1
    assert capsys.readouterr().err == "program: it did not start: said this and that\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_sigterm_ends_it_by_way_of_all_clean_up() -> None:
    cleaned = []

    def wait() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        run_program(wait, "program", [])
    assert caught.value.code == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before
