"""What is kept of runs comes back, and changes are flagged by ratio to the floor, beyond the spread, and only then."""

from __future__ import annotations

import getpass
import io
import json
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from s3torch.harness.bench.history import (
    Record,
    RecordError,
    ScenarioRecord,
    SubjectRecord,
    VerdictRecord,
    append,
    load,
    read_record,
    write_record,
    write_whole,
)
from s3torch.harness.bench.machine import Machine, describe_machine, kernel_version
from s3torch.harness.bench.regressions import (
    KEPT,
    TOLERANCE,
    Kind,
    Measure,
    compare,
    count_compared,
    measure_ratio,
)
from s3torch.harness.bench.report import print_changes
from s3torch.harness.bench.scenario import GIB, Role

MACHINE = Machine("A processor", 2, 8 * GIB, "Linux 6.1 x86_64", "3.11.1", {"torch": "2.13"})
TIMES = st.lists(st.floats(0.01, 100.0), min_size=3, max_size=9)


def make_subject(name: str, role: Role, seconds: list[float], cpu: list[float] | None = None) -> SubjectRecord:
    return SubjectRecord(name, role, seconds=tuple(seconds), cpu_seconds=tuple(cpu or seconds), bytes=GIB)


def make_record(
    ours: list[float], floor: list[float], *, day: int = 1, cpu: list[float] | None = None, **changed: Any
) -> Record:
    subjects = (make_subject("ours", Role.OURS, ours, cpu), make_subject("floor", Role.FLOOR, floor))
    scenario = ScenarioRecord("read", "a read", GIB, subjects=subjects)
    return replace(Record(f"2026-01-{day:02}T00:00:00Z", MACHINE, len(ours), (scenario,)), **changed)


def kinds(now: Record, *history: Record) -> set[tuple[Measure | None, Kind]]:
    return {(change.measure, change.kind) for change in compare(now, history)}


OPTIONAL_SECONDS = st.none() | st.floats(0.0, 10.0)
SUBJECTS = st.integers(0, 5).flatmap(
    lambda runs: st.builds(
        SubjectRecord,
        name=st.text(),
        role=st.sampled_from(Role),
        environment=st.text(),
        failure=st.none() | st.text(),
        absence=st.none() | st.text(),
        seconds=st.tuples(*[st.floats(1e-6, 1e6)] * runs),
        cpu_seconds=st.tuples(*[st.floats(0.0, 1e6)] * runs),
        extra_memory=st.integers(0),
        objects=st.integers(1),
        bytes=st.integers(0),
        requests=st.none() | st.integers(0),
        sent=st.none() | st.integers(0),
        first=OPTIONAL_SECONDS,
        p50=OPTIONAL_SECONDS,
        p99=OPTIONAL_SECONDS,
    )
)
SCENARIOS = st.builds(
    ScenarioRecord,
    scenario=st.text(),
    title=st.text(),
    skipped=st.none() | st.text(),
    subjects=st.lists(SUBJECTS, max_size=3).map(tuple),
    verdicts=st.lists(
        st.builds(VerdictRecord, st.text(), st.text(), st.floats(0, 9), st.none() | st.text()), max_size=2
    ).map(tuple),
)
RECORDS = st.builds(
    Record,
    made=st.just("2026-01-01T00:00:00Z"),
    machine=st.just(MACHINE),
    repeat=st.integers(1),
    scenarios=st.lists(SCENARIOS, max_size=3).map(tuple),
    quick=st.booleans(),
)


@settings(max_examples=30)
@given(RECORDS)
def test_a_record_comes_back_from_json(record: Record) -> None:
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_what_was_kept_before_methods_had_numbers_is_of_the_first() -> None:
    values = make_record([1.0], [1.0]).to_json()
    assert Record.from_json({name: value for name, value in values.items() if name != "method"}).method == 1


@settings(max_examples=30)
@given(RECORDS)
def test_what_a_later_version_adds_is_passed_over(record: Record) -> None:
    values = record.to_json() | {"new": 1}
    values["machine"]["new"] = 1
    for scenario in values["scenarios"]:
        scenario["new"] = 1
        for subject in scenario["subjects"]:
            subject["new"] = 1
    assert Record.from_json(values) == record


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["format", "made", "machine", "scenarios", "repeat", "subjects"]), inner
)))  # fmt: skip
def test_anything_else_is_refused_clearly(values: Any) -> None:
    with pytest.raises(RecordError):
        Record.from_json(values)


def test_a_history_is_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "history"
    assert load(folder) == ([], [])
    later, earlier = make_record([1.0], [1.0], day=2), make_record([1.0], [1.0], day=1)
    paths = [append(folder, later), append(folder, earlier)]
    assert paths[0].name.startswith("20260102T000000Z-")
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text("[1]")
    records, problems = load(folder)
    assert records == [earlier, later]
    assert len(problems) == 2
    assert "broken.json is no JSON" in problems[0]
    assert "other.json is no benchmark record" in problems[1]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["broken.json", "other.json", *(path.name for path in paths)]
    )


def test_a_file_is_written_whole_and_a_link_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("links need a privilege here")
    write_whole(link, "after")
    assert link.is_symlink()
    assert file.read_text() == "after"
    with pytest.raises(UnicodeEncodeError):
        write_whole(link, "\udc00")
    assert file.read_text() == "after"
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"missing\.json: No such file"):
        read_record(tmp_path / "missing.json")
    record = make_record([1.0], [1.0])
    write_record(tmp_path / "later.json", record)
    text = (tmp_path / "later.json").read_text().replace('"format": 1', '"format": 99')
    (tmp_path / "later.json").write_text(text)
    with pytest.raises(RecordError, match="later format, 99"):
        read_record(tmp_path / "later.json")


def test_a_machine_is_described_without_its_name_and_its_user() -> None:
    machine = describe_machine()
    text = json.dumps(Record("now", machine, 1, ()).to_json()) + str(machine)
    assert machine.cpu
    assert machine.cores >= 1
    assert "torch" in machine.versions
    for private in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert private == "/" or private not in text
    if len(getpass.getuser()) > 4:  # shorter names may be part of a word
        assert getpass.getuser() not in text
    assert kernel_version("6.18.44-built-by-somebody") == "6.18"
    assert kernel_version("odd") == ""


# ------------------------------------------------------------------------------------------------------------- changes


@given(TIMES, TIMES, st.floats(0.01, 100.0))
def test_a_slower_machine_is_no_change(ours: list[float], floor: list[float], factor: float) -> None:
    now = make_record([each * factor for each in ours], [each * factor for each in floor], day=2)
    assert compare(now, [make_record(ours, floor)]) == []


@given(TIMES, st.floats(1.2, 100.0))
def test_what_becomes_slower_beside_the_floor_is_flagged(floor: list[float], factor: float) -> None:
    # Ours follows the floor turn by turn, so its ratio has no spread.
    slower = make_record([each * factor for each in floor], floor, day=2)
    same = make_record(floor, floor)
    assert kinds(slower, same) == {(Measure.SPEED, Kind.WORSE), (Measure.CPU, Kind.WORSE)}
    assert kinds(replace(same, made="2026-01-03T00:00:00Z"), slower) == {
        (Measure.SPEED, Kind.BETTER),
        (Measure.CPU, Kind.BETTER),
    }


@given(TIMES, TIMES, TIMES, TIMES)
def test_nothing_is_flagged_where_the_ranges_touch(
    ours: list[float], floor: list[float], old_ours: list[float], old_floor: list[float]
) -> None:
    now, then = make_record(ours, floor, day=2), make_record(old_ours, old_floor)
    bands = [
        measure_ratio(record.scenarios[0], record.scenarios[0].subjects[0], Measure.SPEED, Role.FLOOR)
        for record in (now, then)
    ]
    assert bands[0] is not None
    assert bands[1] is not None
    assume(bands[0].low <= bands[1].high and bands[1].low <= bands[0].high)
    assert Measure.SPEED not in {change.measure for change in compare(now, [then])}


@given(TIMES, st.floats(1.0, 1 / (1 - TOLERANCE) - 1e-9))
def test_a_difference_within_the_tolerance_is_none(floor: list[float], factor: float) -> None:
    assert kinds(make_record([each * factor for each in floor], floor, day=2), make_record(floor, floor)) == set()


@given(TIMES, st.floats(1.0, 10.0), st.floats(1.0, 10.0), st.integers(3, 6))
def test_growing_slower_never_takes_a_flag_back(floor: list[float], some: float, more: float, runs: int) -> None:
    history = [make_record(floor, floor, day=day + 1) for day in range(runs)]
    flags = [
        (Measure.SPEED, Kind.WORSE) in kinds(make_record([each * factor for each in floor], floor, day=20), *history)
        for factor in (some, some * more)
    ]
    assert flags[0] <= flags[1]


def test_turns_in_any_order_and_of_any_object_count_are_the_same() -> None:
    floor = [1.0, 1.1, 1.2, 1.3, 1.4]
    now, then = make_record([2 * each for each in floor], floor, day=2), make_record(floor, floor)
    order = random.Random(4).sample(range(5), 5)
    shuffled = make_record([2 * floor[at] for at in order], [floor[at] for at in order], day=2)
    assert kinds(shuffled, then) == kinds(now, then) != set()
    scenario = now.scenarios[0]
    halved = replace(scenario.subjects[0], seconds=tuple(floor), cpu_seconds=tuple(floor))
    fewer = replace(scenario, subjects=(replace(halved, objects=5), replace(scenario.subjects[1], objects=10)))
    assert kinds(replace(now, scenarios=(fewer,)), then) == kinds(now, then)


def test_only_what_is_comparable_is_compared() -> None:
    slow, fast = make_record([9.0] * 3, [1.0] * 3, day=2), make_record([1.0] * 3, [1.0] * 3)
    assert kinds(slow, fast)
    for other in (
        replace(fast, made="2026-01-09T00:00:00Z"),
        replace(fast, quick=True),
        replace(fast, store="another"),
        replace(fast, method=fast.method + 1),
        replace(fast, machine=replace(MACHINE, cpu="Another")),
        replace(fast, machine=replace(MACHINE, cores=64)),
        replace(fast, scenarios=(replace(fast.scenarios[0], size=1),)),
        replace(fast, scenarios=(replace(fast.scenarios[0], scenario="other"),)),
        make_record([1.0] * 2, [1.0] * 2),
    ):
        assert kinds(slow, other) == set()
    newer = replace(fast, machine=replace(MACHINE, python="3.14", versions={"torch": "3"}))
    assert kinds(slow, newer), "a new version may be what has made it slower"


def said_of(now: Record, *history: Record) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_changes(compare(now, history), count_compared(now, history), console, repeat=now.repeat)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_says_with_how_many_runs_it_was_compared_if_with_any() -> None:
    now, then = make_record([1.0] * 3, [1.0] * 3, day=20), make_record([1.0] * 3, [1.0] * 3)
    assert "since the comparable run." in said_of(now, then)
    assert "the last 2 comparable runs" in said_of(now, then, then)
    assert f"the last {KEPT} comparable runs" in said_of(now, *[then] * 9)
    other = replace(then, scenarios=(replace(then.scenarios[0], scenario="other"),))
    skipped = replace(then, scenarios=(replace(then.scenarios[0], subjects=(), skipped="no nginx"),))
    for nothing in (other, skipped, make_record([1.0] * 2, [1.0] * 2)):
        assert "no comparable run" in said_of(now, nothing)
    assert "takes 3 runs of each subject" in said_of(make_record([1.0] * 2, [1.0] * 2, day=20), then)


def test_one_odd_run_in_the_history_changes_nothing() -> None:
    good, odd = (
        [make_record([1.0] * 3, [1.0] * 3, day=day) for day in (1, 2, 4)],
        make_record([3.0] * 3, [1.0] * 3, day=3),
    )
    assert (Measure.SPEED, Kind.WORSE) in kinds(make_record([1.5] * 3, [1.0] * 3, day=9), *good, odd)
    assert kinds(make_record([1.0] * 3, [1.0] * 3, day=9), *good, odd) == set()


def test_old_runs_are_forgotten() -> None:
    old = [make_record([1.0] * 3, [1.0] * 3, day=day) for day in range(1, 9)]
    new = [make_record([2.0] * 3, [1.0] * 3, day=day) for day in range(10, 10 + KEPT)]
    assert kinds(make_record([2.0] * 3, [1.0] * 3, day=28), *old, *new) == set()


def test_without_a_floor_the_original_is_the_measure() -> None:
    def without(record: Record) -> Record:
        scenario = record.scenarios[0]
        ours, floor = scenario.subjects
        return replace(record, scenarios=(replace(scenario, subjects=(ours, replace(floor, role=Role.ORIGINAL))),))

    then, now = make_record([1.0] * 3, [1.0] * 3), make_record([2.0] * 3, [1.0] * 3, day=2)
    (change, _) = compare(without(now), [without(then)])
    assert (change.against, change.kind) == (Role.ORIGINAL, Kind.WORSE)
    # The ratio to one of them is not held against the ratio to the other.
    assert kinds(now, without(then)) == set()


def test_what_fails_now_is_lost_and_what_was_left_out_is_not() -> None:
    then, now = make_record([1.0] * 3, [1.0] * 3), make_record([1.0] * 3, [1.0] * 3, day=2)
    scenario = now.scenarios[0]
    for failure, expected in (("it broke", {(None, Kind.LOST)}), ("left out", set())):
        failed = SubjectRecord("ours", Role.OURS, failure=failure)
        record = replace(now, scenarios=(replace(scenario, subjects=(failed, scenario.subjects[1])),))
        assert kinds(record, then) == expected
        assert kinds(record) == set()


def test_processor_time_is_judged_by_itself() -> None:
    then = make_record([1.0] * 3, [1.0] * 3, cpu=[0.5] * 3)
    now = make_record([1.0] * 3, [1.0] * 3, cpu=[1.0] * 3, day=2)
    (change,) = compare(now, [then])
    assert (change.measure, change.kind, change.runs) == (Measure.CPU, Kind.WORSE, 1)
    assert change.before is not None
    assert change.now is not None
    assert (change.before.value, change.now.value) == (0.5, 1.0)
