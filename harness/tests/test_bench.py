"""The benchmark judges rightly, notices wrong bytes, and reports a subject that fails."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

import s3torch.harness.bench.subjects as subjects
from s3torch.harness.bench.contents import WrongBytesError
from s3torch.harness.bench.machine import describe_machine
from s3torch.harness.bench.process import SubjectError, SubjectProcess, subject_path
from s3torch.harness.bench.report import print_outcome, print_verdicts, to_record
from s3torch.harness.bench.results import Measured, Outcome
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenario import (
    GIB,
    MIB,
    Entry,
    Figure,
    Requirement,
    Role,
    Scenario,
    Server,
)
from s3torch.harness.bench.scenarios import ALL_SCENARIOS
from s3torch.harness.bench.subjects.measure import Run, cpu_seconds, spend_python
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.servers import Origin, OriginUnavailableError
from s3torch.harness.servers.scripted import ScriptedServer

FLOOR = Entry("floor", Role.FLOOR, "workspace", "floor_http:serial_socket")
SLOW_FLOOR = Entry("slow floor", Role.FLOOR, "workspace", "floor_http:serial_http_client")
OURS = Entry("ours", Role.OURS, "workspace", "connector:serial")
ALSO_OURS = Entry("ours too", Role.OURS, "workspace", "connector:serial", is_judged=False)
ORIGINAL = Entry("original", Role.ORIGINAL, "original", "connector:serial")
NOTHING = Task("http://127.0.0.1:1", "bucket", ["key"], 0)


def make_run(seconds: float = 1.0, cpu: float = 1.0, peak: int = 0) -> Run:
    return Run(seconds=seconds, cpu=cpu, peak=peak, count=1, size=1, crc=0)


def make_scenario(*requirements: Requirement, count: int = 1) -> Scenario:
    return Scenario("name", "title", Server.PLAIN, (FLOOR, OURS), requirements, count=count)


def reach(requirement: Requirement, ours: Run, floor: Run | None = None, original: Run | None = None) -> Any:
    measured = [Measured(OURS, [ours], size=GIB), Measured(ALSO_OURS, [ours], size=GIB)]
    measured += [Measured(FLOOR, [floor], size=GIB)] if floor else []
    measured += [Measured(ORIGINAL, [original], size=GIB)] if original else []
    (verdict,) = Outcome(make_scenario(requirement), measured).verdicts
    assert verdict.subject == "ours"
    return verdict.value, verdict.is_met


def test_judges_rate_against_the_floor_and_the_original() -> None:
    of_floor = Requirement(Figure.RATE, 0.85, "floor")
    assert reach(of_floor, make_run(1.0), floor=make_run(0.9)) == (pytest.approx(0.9), True)
    assert reach(of_floor, make_run(1.0), floor=make_run(0.8)) == (pytest.approx(0.8), False)
    of_original = Requirement(Figure.RATE, 2.5, "original")
    assert reach(of_original, make_run(1.0), original=make_run(2.6)) == (pytest.approx(2.6), True)
    assert reach(of_original, make_run(1.0)) == (None, None)


def test_judges_cpu_and_memory_as_maxima() -> None:
    of_original = Requirement(Figure.CPU, 0.7, "original")
    assert reach(of_original, make_run(cpu=0.6), original=make_run(cpu=1.0)) == (pytest.approx(0.6), True)
    assert reach(of_original, make_run(cpu=0.8), original=make_run(cpu=1.0))[1] is False
    assert reach(Requirement(Figure.MEMORY, 1.1), make_run(peak=GIB))[1] is True
    assert reach(Requirement(Figure.MEMORY, 1.1), make_run(peak=2 * GIB))[1] is False
    assert reach(Requirement(Figure.EXTRA, 64 * MIB), make_run(peak=65 * MIB))[1] is False


def test_judges_what_was_sent_only_where_it_was_counted() -> None:
    scenario = make_scenario(Requirement(Figure.SENT, 1.05))
    for sent, expected in ((GIB, (1.0, True)), (2 * GIB, (2.0, False)), (None, (None, None))):
        (verdict,) = Outcome(scenario, [Measured(OURS, [make_run()], size=GIB, sent=sent)]).verdicts
        assert (verdict.value, verdict.is_met) == expected


def test_the_fastest_floor_counts_and_rates_are_per_object() -> None:
    scenario = make_scenario(Requirement(Figure.RATE, 0.5, "floor"), Requirement(Figure.CPU, 100e-6), count=1000)
    outcome = Outcome(
        scenario,
        [
            Measured(SLOW_FLOOR, [make_run(9.0)], objects=1000),
            Measured(FLOOR, [make_run(1.0)], objects=1000),
            # Half the objects in the same time are half the rate.
            Measured(OURS, [make_run(1.0, cpu=0.06)], objects=500),
        ],
    )
    rate, cpu = outcome.verdicts
    assert rate.value == pytest.approx(0.5)
    assert cpu.value == pytest.approx(120e-6)
    assert (rate.is_met, cpu.is_met) == (True, False)


def test_the_fastest_counts_also_where_nothing_is_transferred() -> None:
    measured = [Measured(FLOOR, [make_run(2.0)]), Measured(SLOW_FLOOR, [make_run(1.0)])]
    best = Outcome(make_scenario(), measured).best(Role.FLOOR)
    assert best is not None
    assert best.entry is SLOW_FLOOR


def test_medians_and_spread() -> None:
    measured = Measured(OURS, [make_run(1.0), make_run(2.0), make_run(9.0)])
    assert measured.seconds == 2.0
    assert measured.spread == pytest.approx(4.0)


def test_reports_losers_failures_and_what_was_not_run() -> None:
    scenario = make_scenario(Requirement(Figure.RATE, 0.85, "floor"))
    outcomes = [
        Outcome(
            scenario,
            [
                Measured(OURS, [make_run(4.0)], size=GIB),
                Measured(FLOOR, [make_run(1.0)], size=GIB),
                Measured(ORIGINAL, failure="it broke"),
            ],
        ),
        Outcome(scenario, skipped="no nginx here"),
    ]
    console = Console(width=180, record=True, file=io.StringIO())
    for outcome in outcomes:
        print_outcome(outcome, console)
    print_verdicts(outcomes, console, is_quick=False)
    text = console.export_text()
    assert "it broke" in text
    assert "no nginx here" in text
    assert "missed" in text
    assert "0.27 GB/s" in text
    made = datetime(2026, 1, 31, tzinfo=timezone.utc)
    record = to_record(outcomes, made=made, machine=describe_machine(), repeat=1, is_quick=False)
    plain = json.loads(json.dumps(record.to_json()))["scenarios"]
    assert plain[0]["verdicts"][0]["met"] is False


def test_scenarios_are_consistent() -> None:
    names = [scenario.name for scenario in ALL_SCENARIOS]
    assert len(set(names)) == len(names)
    folder = Path(next(iter(subjects.__path__)))
    for scenario in ALL_SCENARIOS:
        entries = [entry.name for entry in scenario.entries]
        assert len(set(entries)) == len(entries), scenario.name
        for requirement in scenario.requirements:
            assert requirement.against in (None, "floor", "original", *entries)
        for entry in scenario.entries:
            if entry.absence is not None:
                continue
            module, _, function = entry.subject.partition(":")
            # Peers cannot be imported here.
            tree = ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))
            assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], entry.subject


def test_floors_need_nothing_installed() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import s3torch.harness.bench.subjects.__main__\n"
        "from s3torch.harness.bench.subjects import floor_http, floor_tls\n"
    )
    with subject_path() as path:
        # Neither site-packages nor the environment.
        subprocess.run([sys.executable, "-I", "-S", "-c", program, path], check=True, timeout=60)


def test_spends_processor_time() -> None:
    before, start = cpu_seconds(), time.perf_counter()
    spend_python(0.05)
    assert cpu_seconds() - before >= 0.04
    assert time.perf_counter() - start >= 0.04


def start(subject: str, task: Task = NOTHING, timeout: float = 60.0) -> SubjectProcess:
    return SubjectProcess(sys.executable, subject, task, env=dict(os.environ), timeout=timeout)


def test_a_subject_that_fails_shows_why() -> None:
    with pytest.raises(SubjectError, match="ConnectionRefusedError"):
        start("floor_http:serial_socket")


def test_a_subject_that_hangs_is_ended() -> None:
    with start("importing:module", replace(NOTHING, options={"module": "json"})) as process:
        process._timeout = 0.0
        with pytest.raises(SubjectError, match="did not answer within 0 s"):
            process.run()


@pytest.mark.timeout(120)
def test_workers_end_with_a_subject_that_hangs() -> None:
    with ScriptedServer(lambda _, wire: wire.stall()) as server, ThreadPoolExecutor(1) as pool:
        task = Task(server.endpoint, "bucket", [f"{number}" for number in range(100)], 10, options={"workers": 2})
        with start("floor_loader:map_loader", task) as process:
            process._timeout = 12.0  # and longer than two workers take to start on a busy machine
            running = pool.submit(process.run)
            while len(workers := psutil.Process(process._process.pid).children()) < 2 and not running.done():
                time.sleep(0.05)
            with pytest.raises(SubjectError, match="did not answer within 12 s"):
                running.result()
            before = time.monotonic()
        assert time.monotonic() - before < 9  # workers that held its output would be waited for ten seconds
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_an_import_that_leaves_a_thread_or_a_socket_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (tmp_path / "leaves_socket.py").write_text("import socket\nkept = socket.socket()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for module, left in (("leaves_thread", "1 threads and 0 sockets"), ("leaves_socket", "0 threads and 1 sockets")):
        if module == "leaves_socket" and sys.platform != "linux":
            continue  # only Linux lists a process's descriptors as files
        task = replace(NOTHING, options={"module": module})
        with start("importing:module", task) as process, pytest.raises(SubjectError, match=left):
            process.run()


@pytest.mark.usefixtures("origin")
def test_runs_floors_and_notices_wrong_bytes() -> None:
    serial = next(scenario for scenario in ALL_SCENARIOS if scenario.name == "serial")
    floors = tuple(entry for entry in serial.entries if entry.role is Role.FLOOR)
    scenario = replace(serial, entries=floors)
    with Runner(Settings(repeat=2, quick=True)) as runner:
        outcome = runner.run(scenario)
        assert [len(measured.runs) for measured in outcome.measured] == [2] * len(floors)
        assert all(measured.size == 100 * 110_000 for measured in outcome.measured)
        origin: Any = runner._origin
        path = next((origin.root / "bench" / "110000").iterdir())
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(WrongBytesError, match="CRC-32"):
            runner.run(scenario)


@pytest.mark.usefixtures("origin")
def test_removes_what_no_further_scenario_reads() -> None:
    few, large = (next(each for each in ALL_SCENARIOS if each.name == name) for name in ("serial", "get-read"))
    few, large = (replace(each, entries=each.entries[:1]) for each in (few, large))
    more = replace(few, count=few.count + 1, quick_count=200)
    with Runner(Settings(repeat=1, quick=True)) as runner:
        for scenario in (few, more, large):
            runner.run(scenario)
        origin: Any = runner._origin

        def left() -> dict[str, int]:
            return {folder.name: sum(1 for _ in folder.iterdir()) for folder in (origin.root / "bench").iterdir()}

        size = str(32 * 1024 * 1024)
        assert left() == {"110000": 200, size: 1}
        runner.keep_for([few, large])
        assert left() == {"110000": 100, size: 1}
        assert runner.run(few).measured[0].runs
        runner.keep_for([large])
        assert left() == {"110000": 0, size: 1}
        assert runner.run(more).measured[0].runs, "what has been removed is laid out anew"


def test_says_what_is_missing_without_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Origin) -> None:
        raise OriginUnavailableError("install nginx")

    monkeypatch.setattr(Origin, "start", refuse)
    with Runner(Settings()) as runner:
        assert runner.run(ALL_SCENARIOS[0]).skipped == "install nginx"


def test_the_command_knows_its_scenarios() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "s3torch.harness.bench", "--scenario", "no-such"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    said = "Invalid value: no scenario 'no-such'; see --list. Try `s3torch bench --help`."
    assert done.stderr.splitlines() == [f"s3torch bench: {said}"]
