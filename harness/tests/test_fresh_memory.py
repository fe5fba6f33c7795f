"""Memory that is taken before a run is there for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from s3torch.harness.bench import fresh_memory
from s3torch.harness.bench.machine import available_memory
from s3torch.harness.bench.subjects.memory import fresh_map

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
    for available in (0, 4 * SIZE, 100 * SIZE):
        monkeypatch.setattr(fresh_memory, "available_memory", lambda available=available: available)
        fresh_memory.recall(SIZE)
    assert taken == [SIZE, SIZE, 3 * SIZE]
