"""Memory that is taken before a run is there for it."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3torch.harness.bench import fresh_memory
from s3torch.harness.bench.machine import available_memory
from s3torch.harness.bench.subjects.measure import measure, resident_bytes
from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.task import Subject

SIZE = 100 * 1024 * 1024 + 1

PROGRAM = f"""
from s3torch.harness.bench.fresh_memory import recall
from s3torch.harness.bench.subjects.measure import peak_bytes, resident_bytes
before = resident_bytes()
recall({SIZE})
print(before, peak_bytes(), resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is resident")
def test_every_page_is_taken_and_freed_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    before, peak, after = map(int, done.stdout.split())
    assert peak - before > 0.95 * min(3 * SIZE, available_memory() // 4)
    assert after - before < 0.1 * SIZE


def test_no_more_than_a_part_of_the_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def note(size: int) -> object:
        taken.append(size)
        return fresh_map(size)

    monkeypatch.setattr(fresh_memory, "fresh_map", note)
    monkeypatch.setattr(fresh_memory, "_REPORT_SECONDS", 0)
    for available in (0, 4 * SIZE, 100 * SIZE):
        monkeypatch.setattr(fresh_memory, "available_memory", lambda available=available: available)
        fresh_memory.recall(SIZE)
    assert taken == [SIZE, SIZE, 3 * SIZE]


@pytest.mark.parametrize("is_reported", [False, True])
def test_a_report_of_free_memory_is_waited_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_reported: bool
) -> None:
    taken = []

    def note(size: int) -> object:
        taken.append(time.monotonic())
        return fresh_map(size)

    monkeypatch.setattr(fresh_memory, "fresh_map", note)
    monkeypatch.setattr(fresh_memory, "_REPORT_SECONDS", 0.5)
    monkeypatch.setattr(fresh_memory, "_REPORTING", tmp_path if is_reported else tmp_path / "not-there")
    start = time.monotonic()
    fresh_memory.recall(2**20)
    assert (taken[0] - start >= 0.5) is is_reported


def test_files_and_folders_are_read_to_their_end(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    sizes = {"whole": 3 * 2**20 + 5, "folder/one": 1, "folder/deeper/two": 2**20, "folder/none": 0}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert fresh_memory.reread([tmp_path / "whole", tmp_path / "folder", tmp_path / "not-there"]) == sum(sizes.values())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is resident")
def test_what_a_run_works_on_is_there_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        seen = []

        def run(_: object) -> None:
            seen.append(resident_bytes())

        before = resident_bytes()
        measure(Subject(run, state=lambda: [memoryview(memory)]), check=False, spend=0.0)
        assert seen[0] - before > 0.95 * SIZE
