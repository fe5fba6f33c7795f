"""The matrix of faults: a slice of it passes, and whatever is broken on purpose does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from s3torch.client import ObjectNotFoundError, S3ConnectionError
from s3torch.harness.faults.cases import ALL_CASES
from s3torch.harness.faults.matrix import ENGINES, choose_cells, load_engine
from s3torch.harness.faults.subjects import ALL_SUBJECTS
from s3torch.harness.faults.verdict import Report, Verdict, judge

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the matrix forks its cells"),
]

ROOT = Path(__file__).parents[2]
BROKEN = "harness.tests.faulty_engines"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.harness.faults", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        env=ENVIRONMENT,
    )


def options(**values: str) -> list[str]:
    return [part for name, value in values.items() for each in value.split() for part in (f"--{name}", each)]


def run_cells(folder: Path, **values: str) -> tuple[int, dict[tuple[str, str, str], Any], str]:
    file = folder / "cells.json"
    ended = run(*options(**values), "--seed", "1", "--json", str(file))
    assert file.exists(), ended.stderr
    cells = json.loads(file.read_text())["cells"]
    found = {(cell["case"], cell["subject"], cell["engine"].rpartition(":")[2]): cell for cell in cells}
    return ended.returncode, found, ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_slice_of_the_matrix_passes(tmp_path: Path) -> None:
    status, cells, told = run_cells(
        tmp_path,
        fault="reset 503-some cut-always unframed swap flip expire replace upload-lost kill",
        subject="read sequential get-many workers dcp-load spawn writer",
        engine="direct memory",
    )
    assert status == 0, told
    assert len(cells) >= 40
    assert {cell["verdict"] for cell in cells.values()} == {"right", "error"}
    assert cells["reset", "read", "direct"]["verdict"] == "right"
    assert cells["cut-always", "read", "direct"]["verdict"] == "error"
    assert cells["kill", "writer", "direct"]["struck"] >= 3
    assert "--seed 1" in told


@pytest.mark.slow
def test_the_boto3_engine_passes_a_slice(tmp_path: Path) -> None:
    status, cells, told = run_cells(
        tmp_path, fault="reset 503 swap flip", subject="read iterable put", engine="boto3", jobs="4"
    )
    assert status == 0, told
    assert cells["flip", "iterable", "boto3"]["verdict"] == "right"


@pytest.mark.slow
def test_what_is_broken_on_purpose_is_found(tmp_path: Path) -> None:
    names = "MixesAnswers SwallowsCuts Hangs RaisesAnything GivesUp DoesNotWait ForgetsParts"
    status, cells, told = run_cells(
        tmp_path,
        fault="503-wait cut-always 500",
        subject="read put-stream",
        engine=" ".join(f"{BROKEN}:{name}" for name in names.split()),
        limit="10",
    )
    assert status == 1, told
    verdicts = {(case, subject, engine): cell["verdict"] for (case, subject, engine), cell in cells.items()}
    assert verdicts["500", "read", "MixesAnswers"] == "WRONG BYTES"
    assert verdicts["cut-always", "read", "SwallowsCuts"] in ("WRONG BYTES", "UNTYPED ERROR")
    assert verdicts["cut-always", "read", "Hangs"] == "HANG"
    assert "faulty_engines.py" in cells["cut-always", "read", "Hangs"]["detail"]  # where it hangs
    assert verdicts["cut-always", "read", "RaisesAnything"] == "UNTYPED ERROR"
    assert verdicts["500", "read", "GivesUp"] == "NOT MENDED"
    assert verdicts["500", "put-stream", "ForgetsParts"] == "WRONG BYTES"
    # The same cells with engines in order.
    assert verdicts["500", "read", "ForgetsParts"] == "right"
    assert verdicts["500", "put-stream", "MixesAnswers"] == "right"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fault", "nothing"], "no such fault: nothing"),
        (["--subject", "nothing"], "no such subject: nothing"),
        (["--engine", "nothing"], "no such engine: nothing"),
        (["--engine", "no.module:name"], "no such engine: no.module:name"),
        (["--fault", "kill", "--subject", "read"], "no cell has"),
        (["--jobs", "0"], "--jobs"),
        (["--seed", "x"], "--seed"),
        (["--json", "/no/such/folder/file"], "there is no folder"),
    ],
)
def test_a_bad_argument_is_one_line(arguments: list[str], told: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_interrupt_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "s3torch.harness.faults", *options(fault="stall-always", engine="direct")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert process.stderr is not None
    assert "cells" in process.stderr.readline()
    deadline = time.monotonic() + 60
    while not (started := [pid for pid in children(process.pid) if is_cell(pid)]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    everyone = descendants(process.pid)
    assert set(started) < set(everyone)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stderr.close()
    while any(map(is_running, everyone)):
        assert time.monotonic() < deadline + 30, [pid for pid in everyone if is_running(pid)]
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    import psutil

    try:
        return [each.pid for each in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def is_cell(pid: int) -> bool:
    """A forked copy of the matrix that has forked one itself."""
    return bool(children(pid))


def is_running(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_every_case_meets_somebody_and_every_subject_something() -> None:
    cells = choose_cells(ALL_CASES, ALL_SUBJECTS, ENGINES)
    assert {cell.case for cell in cells} == {case.name for case in ALL_CASES}
    assert {cell.subject for cell in cells} == {subject.name for subject in ALL_SUBJECTS}
    assert {cell.engine for cell in cells} == set(ENGINES)
    assert len(cells) == len(set(cells))
    assert load_engine("direct") == "direct"


def test_verdicts() -> None:
    def verdict(report: Report | None, *, struck: int = 1, must_mend: bool = True, least_s: float = 0.0) -> Verdict:
        return judge(report, struck=struck, is_certain=True, must_mend=must_mend, least_s=least_s)

    done = Report(is_done=True, seconds=1.0)
    assert verdict(done) is Verdict.RIGHT
    assert verdict(done, least_s=2.0) is Verdict.EARLY
    assert verdict(done, struck=0) is Verdict.UNSTRUCK
    assert verdict(None) is Verdict.UNTYPED
    assert verdict(Report(is_done=True, wrong=["a"])) is Verdict.WRONG
    assert verdict(Report(error="KeyError")) is Verdict.UNTYPED
    assert verdict(Report(error="S3Exception", is_typed=True)) is Verdict.UNMENDED
    assert verdict(Report(error="S3Exception", is_typed=True), must_mend=False) is Verdict.ERROR


def test_typed_errors() -> None:
    from torch.distributed.checkpoint.api import CheckpointException

    from s3torch.dcp import CorruptCheckpointError
    from s3torch.harness.faults._cell import is_typed

    assert is_typed(S3ConnectionError("x"))
    assert is_typed(CorruptCheckpointError("x"))
    assert not is_typed(KeyError("x"))
    assert is_typed(CheckpointException("load", {0: (ObjectNotFoundError("x"), None)}))  # type: ignore[dict-item]  # no stack
    assert not is_typed(CheckpointException("load", {0: (OSError("x"), None)}))  # type: ignore[dict-item]  # likewise
