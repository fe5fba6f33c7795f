from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import EntryPoint, version
from pathlib import Path

import pytest

from s3torch.cli import commands, main

# A distribution as an installer leaves it: the command line finds its commands through the metadata.
METADATA = "Metadata-Version: 2.1\nName: s3torch-test-commands\nVersion: 1.0\n"
ENTRIES = "[s3torch.commands]\ngreet = s3torch_test_commands:greet\nbroken = s3torch_test_no_such_module:command\n"
MODULE = '''
import sys, time

def greet(name: str, times: int = 1) -> None:
    """Greet somebody.

    More of it.
    """
    print(f"hello {name} " * times)
    if name == "crash":
        raise RuntimeError("a bug in the command")
    if name == "s3":
        from s3torch.client import ObjectNotFoundError
        raise ObjectNotFoundError("it is\\nnot there", operation="GetObject", bucket="b", key="k")
    if name == "wait":
        sys.stdout.flush()
        time.sleep(60)
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a distribution with commands of its own is installed."""
    info = tmp_path / "s3torch_test_commands-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "s3torch_test_commands.py").write_text(MODULE)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "120"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "s3torch.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands_installed(environment: dict[str, str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        finished = run(environment, *arguments)
        assert finished.returncode == 0, finished.stderr
        assert "greet" in finished.stdout
        assert "Greet somebody." in finished.stdout
        assert "More of it" not in finished.stdout
        assert "demo" in finished.stdout


def test_a_broken_command_does_not_hide_the_others(environment: dict[str, str]) -> None:
    assert "cannot be loaded" in run(environment).stdout
    finished = run(environment, "broken")
    assert finished.returncode == 2
    assert finished.stderr.startswith("s3torch: the command 'broken' cannot be loaded")
    assert finished.stderr.count("\n") == 1


def test_version(environment: dict[str, str]) -> None:
    finished = run(environment, "--version")
    assert (finished.returncode, finished.stdout) == (0, f"s3torch {version('s3torch')}\n")


def test_a_command_gets_its_arguments(environment: dict[str, str]) -> None:
    finished = run(environment, "greet", "you", "--times", "2")
    assert (finished.returncode, finished.stdout.split()) == (0, ["hello", "you", "hello", "you"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["greet"], "name"),
        (["greet", "you", "--times", "many"], "--times"),
        (["greet", "you", "--nonsense"], "Try `s3torch greet --help`"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    environment: dict[str, str], arguments: list[str], said: str
) -> None:
    finished = run(environment, *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("s3torch: ")
    assert finished.stderr.count("\n") == 1
    assert said in finished.stderr.replace("NAME", "name")


def test_an_error_of_s3_is_one_line_and_status_1(environment: dict[str, str]) -> None:
    finished = run(environment, "greet", "s3")
    assert finished.returncode == 1
    assert finished.stderr == "s3torch: GetObject s3://b/k: it is not there.\n"


def test_a_bug_keeps_its_traceback(environment: dict[str, str]) -> None:
    finished = run(environment, "greet", "crash")
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "a bug in the command" in finished.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a console event there, not a signal to one process")
def test_ctrl_c_is_status_130_without_a_traceback(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "s3torch.cli", "greet", "wait"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("hello wait")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_known_command_that_is_not_installed_names_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "entry_points", lambda group: ())
    assert main(["demo", "--uri", "s3://bucket/prefix"]) == 2
    assert capsys.readouterr().err == (
        "s3torch: the command 'demo' is not installed; run: pip install 's3torch[demo]'\n"
    )
    assert main(["--help"]) == 0
    assert "s3torch[demo]" in "".join(capsys.readouterr().out.split())


def test_a_known_command_whose_needs_are_missing_names_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = EntryPoint("demo", "s3torch_test_no_such_module:command", commands.GROUP)
    monkeypatch.setattr(commands, "entry_points", lambda group: (entry,))
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.endswith("run: pip install 's3torch[demo]'\n")


def test_it_starts_without_torch_or_boto3() -> None:
    code = textwrap.dedent(
        """
        import sys
        from s3torch.cli import main
        for arguments in (["--help"], ["--version"]):
            assert main(arguments) == 0
        sys.exit(", ".join({"torch", "boto3", "botocore", "s3torch.client"} & set(sys.modules)) or 0)
        """
    )
    start = time.monotonic()
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert finished.stderr.strip() == ""
    assert finished.returncode == 0
    assert time.monotonic() - start < 30
