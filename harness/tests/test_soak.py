"""A soak that is clean passes; each leak, wrong byte, hang and foreign error that is planted is found."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.tests.processes import still_there
from rich.console import Console

from s3torch.client import S3ConnectionError, S3Exception, S3TimeoutError
from s3torch.harness._options import load_name
from s3torch.harness._typed_errors import find_typed_error
from s3torch.harness.soak.events import Began, Broken, Done, Ended, Rounded, decode, encode
from s3torch.harness.soak.place import WrongBytesError, check_bytes
from s3torch.harness.soak.settings import Job, Settings
from s3torch.harness.soak.soaking import Report, run_soak
from s3torch.harness.soak.trend import MEASURES, Measure, judge_growth, trend_of
from s3torch.harness.soak.view import draw_progress, print_verdict
from s3torch.harness.soak.watching import Sample, settle, take_sample

ROOT = Path(__file__).parents[2]
MIB = 1024**2
MEMORY, THREADS, DESCRIPTORS, CHILDREN = MEASURES

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

# Each soak starts a server, a proxy and a process that imports torch, which takes its time on a busy machine.
whole = [pytest.mark.slow, pytest.mark.timeout(240)]

PLANTED = """
import os, threading, time

held = []

def leak_descriptor(place, chance):
    held.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(3))
    return 1

def leak_thread(place, chance):
    event = threading.Event()
    for _ in range(3):
        threading.Thread(target=event.wait, daemon=True).start()
    return 1

def leak_memory(place, chance):
    held.append(bytearray(os.urandom(8 * 1024 * 1024)))
    return 1

def read_wrong(place, chance):
    from s3torch.harness.soak.place import check_bytes
    data = bytearray(place.client.read(place.bucket, place.small_keys[0]))
    data[7] ^= 1
    return check_bytes("planted", data, place.content(place.small_keys[0]))

def fail(place, chance):
    return {}["no such key"]

def hang(place, chance):
    time.sleep(600)
"""


# Trends ------------------------------------------------------------------------------------------------------------


def samples(values: Sequence[float], name: str, *, every: float = 3.0) -> list[Sample]:
    base = {"memory": 500 * MIB, "threads": 3, "descriptors": 20, "children": 0}
    return [Sample(number * every, **{**base, name: int(value)}) for number, value in enumerate(values)]


def test_the_trend_is_the_median_of_all_slopes() -> None:
    slope, low, high = trend_of([(0, 1), (1, 3), (2, 5), (3, 100), (4, 9)])
    assert slope == pytest.approx(2.0)
    assert low <= 2.0 <= high


def test_a_wild_trend_is_uncertain() -> None:
    chance = random.Random(0)
    slope, low, high = trend_of([(x, chance.gauss(0, 100)) for x in range(40)])
    assert low < 0 < high
    assert low < slope < high


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_steady_measure_is_steady(measure: Measure) -> None:
    chance = random.Random(1)
    noise = 3 * MIB if measure is MEMORY else 2
    found = judge_growth(samples([500 + chance.uniform(0, noise) for _ in range(100)], measure.name), measure)
    assert found.grows is False


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_growing_measure_is_found_under_noise(measure: Measure) -> None:
    chance = random.Random(2)
    step, noise = (MIB // 4, 3 * MIB) if measure is MEMORY else (0.5, 2)
    found = judge_growth(samples([step * n + chance.uniform(0, noise) for n in range(100)], measure.name), measure)
    assert found.grows is True
    assert found.slope == pytest.approx(step * 20, rel=0.2)


def test_growth_that_ends_with_the_warm_up_is_none() -> None:
    values = [min(number, 20) * MIB * 10 for number in range(100)]
    assert judge_growth(samples(values, "memory"), MEMORY).grows is False


def test_a_little_growth_of_memory_is_allowed() -> None:
    assert judge_growth(samples([n * MIB // 100 for n in range(200)], "memory"), MEMORY).grows is False


def test_a_slow_leak_of_descriptors_is_found() -> None:
    """One in twenty rounds."""
    assert judge_growth(samples([20 + number // 20 for number in range(200)], "descriptors"), DESCRIPTORS).grows is True


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_samples_say_nothing(count: int) -> None:
    assert judge_growth(samples([0] * count, "threads"), THREADS).grows is None


# Watching ----------------------------------------------------------------------------------------------------------


def test_a_sample_counts_what_a_process_holds() -> None:
    """In a process of its own, where nothing that other tests have left comes to its end meanwhile."""
    command = [sys.executable, "-c", "from harness.tests.test_soak import count_what_is_held as count; count()"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr


def count_what_is_held() -> None:
    settle()
    before = take_sample(0.0)
    event = threading.Event()
    threads = [threading.Thread(target=event.wait) for _ in range(3)]
    memory = bytearray(os.urandom(40 * MIB))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        for thread in threads:
            thread.start()
        during = take_sample(1.0)
    finally:
        event.set()
        for descriptor in descriptors:
            os.close(descriptor)
        child.communicate(b"\n", timeout=60)
        for thread in threads:
            thread.join()
    assert during.threads == before.threads + 3
    assert during.descriptors == before.descriptors + 6  # five, and the child's pipe
    assert during.children == before.children + 1
    assert during.memory > before.memory + 35 * MIB
    del memory
    settle()
    after = take_sample(2.0)
    assert (after.threads, after.descriptors, after.children) == (before.threads, before.descriptors, before.children)
    assert after.memory < before.memory + 10 * MIB


# Parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        Began(),
        Done("a", 5, 0.5),
        Done("a", 0, 1.0, "error"),
        Broken("a", "b\nc"),
        Rounded(3, Sample(1.0, 2, 3, 4, 5)),
        Ended(7),
    ],
)
def test_events_survive_the_pipe(event: Any) -> None:
    line = encode(event)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert decode(line) == event


def test_a_job_survives_the_command_line() -> None:
    job = Job("http://x", "region", "bucket", 60.0, 1, 1, 2, ("a",), ("b:c",))
    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    "options",
    [
        {"minutes": 0},
        {"rounds": 0},
        {"rate": 0.6},
        {"rate": -0.1},
        {"workers": -1},
        {"server": "other"},
        {"silence": 0},
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Settings(**options)


@pytest.mark.parametrize("name", ["os", "os:nothing", "no.such.module:f", ":f", "os:sep"])
def test_a_name_of_no_function_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"--also.*{name}"):
        load_name("--also", name)


@pytest.mark.parametrize(("found", "at"), [(b"abXd", 2), (b"abc", 3), (b"abcde", 4)])
def test_wrong_bytes_are_told_with_their_place(found: bytes, at: int) -> None:
    assert check_bytes("right", b"abcd", b"abcd") == 4
    with pytest.raises(WrongBytesError, match=f"from byte {at} on"):
        check_bytes("wrong", found, b"abcd")


def test_errors_of_the_client_are_known_also_inside_torch_s() -> None:
    from torch.distributed.checkpoint.api import CheckpointException

    ours, foreign = S3ConnectionError("x"), KeyError("x")
    assert find_typed_error(ours, S3Exception) is ours
    assert find_typed_error(foreign, S3Exception) is None
    both = CheckpointException("x", {0: (ours, None), 1: (S3TimeoutError("y"), None)})  # type: ignore[dict-item]  # torch takes None
    assert find_typed_error(both, S3Exception) is ours
    mixed = CheckpointException("x", {0: (ours, None), 1: (foreign, None)})  # type: ignore[dict-item]  # the same
    assert find_typed_error(mixed, S3Exception) is None


def verdict_of(report: Report) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(draw_progress(report))
        print_verdict(report, console)
    return captured.get()


def test_the_verdict_names_what_grows_and_what_broke() -> None:
    report = Report(Settings(seed=77), injected={"reset": 3}, samples=samples(range(30), "threads"))
    report.done["read"] += 1
    report.longest["read"] = 1.0
    assert not report.is_good
    assert "GROWS: threads" in verdict_of(report)
    report.broken.append("read: wrong bytes")
    assert "BROKEN: read: wrong bytes" in verdict_of(report)
    assert "seed 77" in verdict_of(report)


def test_a_soak_without_faults_or_load_shows_nothing() -> None:
    report = Report(Settings(), samples=samples([1] * 30, "threads"))
    assert "NOTHING SHOWN" in verdict_of(report)
    report.done["read"] += 1
    report.longest["read"] = 1.0
    assert not report.is_good
    assert "NOTHING SHOWN" in verdict_of(report)  # no fault took effect
    struck = replace(report, injected={"reset": 1})
    assert struck.is_good
    assert "GOOD" in verdict_of(struck)


# Whole soaks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of bad activities, for this process and those below."""
    (tmp_path / "planted_in_soak.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


class TestWholeSoaks:
    pytestmark = whole

    def test_a_clean_soak_is_good(self) -> None:
        report = run_soak(Settings(minutes=0.01, rate=0.1, seed=3))
        assert report.broken == []
        assert report.is_good, verdict_of(report)
        assert len(report.done) == 10  # all activities, in one round at least
        assert report.size > 40_000_000

    def test_each_leak_is_found(self, planted: None) -> None:
        leaks = [f"planted_in_soak:leak_{what}" for what in ("descriptor", "thread", "memory")]
        report = run_soak(Settings(minutes=0.001, rounds=12, only=("fetch_many",), also=tuple(leaks), seed=4))
        growths = {growth.measure.name: growth.grows for growth in report.growths()}
        assert growths == {"memory": True, "threads": True, "descriptors": True, "children": False}, verdict_of(report)
        assert not report.is_good
        assert report.broken == []

    def test_wrong_bytes_foreign_errors_and_hangs_are_found(self, planted: None) -> None:
        bad = tuple(f"planted_in_soak:{name}" for name in ("read_wrong", "fail", "hang"))
        report = run_soak(Settings(minutes=1, only=("fetch_many",), also=bad, seed=5, silence=30.0))
        assert not report.is_good
        wrong, foreign, hang = report.broken
        assert "different from byte 7 on" in wrong
        assert "KeyError" in foreign
        assert "planted_in_soak.py" in hang  # the stack that hangs
        assert "in hang" in hang

    @posix_only
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_everything_and_ctrl_c_gives_the_verdict(self, number: signal.Signals) -> None:
        with soak_under_way() as (process, below):
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            if number == signal.SIGINT:
                assert "interrupted: the verdict is that of the time until then" in out
                assert process.returncode in (1, 130)  # 1 where it came before anything was done
            else:
                assert process.returncode == 143
            assert "Traceback" not in err
            assert still_there(below) == []


@contextlib.contextmanager
def soak_under_way() -> Iterator[tuple[Any, list[psutil.Process]]]:
    """Start a soak as a user does, wait until its load runs; yield it and all processes below it."""
    process = psutil.Popen(
        [sys.executable, "-m", "s3torch.harness.soak", "--minutes", "5", "--only", "fetch_many", "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not any("soak.worker" in " ".join(each.cmdline()) for each in process.children()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        yield process, process.children(recursive=True)
    finally:
        for left in [*process.children(recursive=True), process] if process.is_running() else []:
            left.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize(
    "arguments", [("--minutes", "0"), ("--minutes", "x"), ("--only", "nothing"), ("--also", "nothing"), ("--what",)]
)
def test_bad_arguments_are_one_clear_line(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "s3torch.harness.soak", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_events_are_plain_json() -> None:
    assert json.loads(encode(Ended(1))) == {"event": "Ended", "rounds": 1}
