"""The matrix of faults: a slice of it passes, and whatever is broken on purpose does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.tests.processes import run_python, still_there

from s3torch.client import ObjectNotFoundError, S3ClientConfig, S3ConnectionError
from s3torch.harness._options import ENGINES, load_engine
from s3torch.harness.faults.cases import ALL_CASES
from s3torch.harness.faults.contents import LARGE, objects_to_read
from s3torch.harness.faults.matrix import choose_cells
from s3torch.harness.faults.place import Place
from s3torch.harness.faults.plan import make_replacement
from s3torch.harness.faults.subjects import ALL_SUBJECTS
from s3torch.harness.faults.verdict import Report, Verdict, judge

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the matrix forks its cells"),
]

ROOT = Path(__file__).parents[2]
BROKEN = "harness.tests.faulty_engines"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    # A user's own, of which nothing may reach the matrix.
    "AWS_PROFILE": "no-such-profile",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


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
        limit="20",
    )
    assert status == 1, told
    verdicts = {(case, subject, engine): cell["verdict"] for (case, subject, engine), cell in cells.items()}
    assert verdicts["500", "read", "MixesAnswers"] == "WRONG BYTES"
    assert verdicts["cut-always", "read", "SwallowsCuts"] in ("WRONG BYTES", "UNTYPED ERROR")
    assert verdicts["cut-always", "read", "Hangs"] == "HANG"
    assert "faulty_engines.py" in cells["cut-always", "read", "Hangs"]["detail"]  # where it hangs
    assert verdicts["cut-always", "read", "RaisesAnything"] == "UNTYPED ERROR"
    assert verdicts["500", "read", "GivesUp"] == "NOT MENDED"
    assert verdicts["503-wait", "read", "DoesNotWait"] == "EARLY"
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


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    command = [sys.executable, "-m", "s3torch.harness.faults", *options(fault="stall-always", engine="direct")]
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    everyone: list[Any] = []
    try:
        assert "cells" in process.stderr.readline()
        deadline = time.monotonic() + 60
        # A cell is a forked copy of the matrix that has forked one itself.
        while not any(cell.children() for cell in process.children()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        everyone = process.children(recursive=True)
        assert len(everyone) >= 4  # the server, the proxy, a cell and what that watches
        assert list(tmp_path.glob("s3torch-faults-*"))
        process.send_signal(sent)
        assert process.wait(60) == status
        assert still_there(everyone, 30) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        for left in [process, *everyone]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait(10)
        process.stderr.close()


# A cell that hears no signal, as one that is stuck in C, and watches another.
DEAF = """
import os, signal, time
from s3torch.harness.faults._forking import fork
from s3torch.harness.faults.matrix import _Running
from s3torch.harness.faults.verdict import Cell

is_deaf, tell = os.pipe()

def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    watched, _ = fork(lambda: time.sleep(60))
    print(watched, flush=True)
    os.write(tell, b"x")
    time.sleep(60)

pid, pipe = fork(deaf)
cell = _Running(Cell("case", "subject", "engine"), pid, pipe, 0.0)
os.read(is_deaf, 1)
cell.end()
print(cell.finish().verdict.value, pid)
"""


def test_a_cell_that_hears_no_signal_is_killed_with_all_below_it() -> None:
    watched, told = run_script(DEAF)
    assert told.startswith("UNTYPED ERROR")
    left = [int(told.split()[-1]), *([int(watched)] if sys.platform == "linux" else [])]
    try:
        assert still_there(left, 30) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(watched), signal.SIGKILL)


# Writes the first times, when it is killed, and only says so the last time.
LAZY = """
import sys, tempfile
from pathlib import Path
from s3torch.harness.conformance.arrangement import Boto3Arrangement
from s3torch.harness.faults._cell import Job, run_cell
from s3torch.harness.faults._writing import put, see_put
from s3torch.harness.faults.cases import ALL_CASES
from s3torch.harness.faults.subjects import Subject
from s3torch.harness.faults.verdict import Cell
from s3torch.harness.servers import MotoServer

def lazy(place):
    turns.write_text(turns.read_text() + "x" if turns.exists() else "x")
    if len(turns.read_text()) <= int(sys.argv[1]):
        put(place)

case = next(case for case in ALL_CASES if case.name == "kill")
with MotoServer() as server, tempfile.TemporaryDirectory() as folder:
    turns = Path(folder, "turns")
    arrangement = Boto3Arrangement(server.boto3_client())
    job = Job(
        endpoint=server.endpoint, bucket=server.create_bucket("killed"), arrangement=arrangement, host=None,
        folder=folder, limit=30.0, seed=1,
    )
    outcome = run_cell(job, Cell("kill", "put", "direct"), case, Subject("put", lazy, see_put), "direct")
print(outcome.struck)
print(outcome.verdict.value)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("writes", "verdict"), [(2, "WRONG BYTES"), (9, "right")])
def test_what_killed_turns_have_written_is_not_taken_for_the_last_turns(writes: int, verdict: str) -> None:
    assert run_script(LAZY, str(writes)) == ["2", verdict]


def run_script(script: str, *arguments: str) -> list[str]:
    """Run code that forks, in a process without threads; return its lines."""
    ended = run_python("-c", script, *arguments, seconds=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_pieces_of_two_versions_are_wrong_bytes() -> None:
    old = objects_to_read()[LARGE]
    new = make_replacement(len(old))

    def check(*pieces: tuple[bytes, int]) -> list[str]:
        place = Place("", "", "", "", S3ClientConfig(), lambda _: b"", may_be_replaced=True)
        for version, start in pieces:
            place.check(LARGE, version[start : start + 1000], start, whole=False)
        return place.wrong

    assert check((old, 0), (old, 5000)) == check((new, 5000), (new, 0)) == []
    assert len(check((old, 0), (new, 5000))) == 1
    assert len(check((new, 0), (old, 5000), (new, 9000))) == 1


def test_every_case_meets_somebody_and_every_subject_something() -> None:
    cells = choose_cells(ALL_CASES, ALL_SUBJECTS, ENGINES)
    assert {cell.case for cell in cells} == {case.name for case in ALL_CASES}
    assert {cell.subject for cell in cells} == {subject.name for subject in ALL_SUBJECTS}
    assert {cell.engine for cell in cells} == set(ENGINES)
    assert len(cells) == len(set(cells))
    assert load_engine("--engine", "direct") == "direct"


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
