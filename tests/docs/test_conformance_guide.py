"""The reader that the guide shows obeys the laws, its broken variant is caught, and both look as the guide says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.conftest import ROOT, Page

EXAMPLES = ROOT / "docs" / "examples"
GUIDE = Page(ROOT / "docs" / "guides" / "conformance.md")
DEADLINE = 170

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEADLINE + 10), pytest.mark.usefixtures("dummy_aws_env")]


def conform(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.cli", "conform", "--slack", "256KiB", "--engine", "memory", *options],
        cwd=EXAMPLES,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )


def test_the_example_obeys_every_law_and_its_variant_is_caught_as_shown() -> None:
    names = ("third_party_reader:ReadAheadReader", "third_party_reader:HastyReader")
    finished = conform(*(word for name in names for word in ("--reader", name)))
    assert finished.returncode == 1, finished.stdout + finished.stderr
    good, _, bad = finished.stdout.partition(f"\nreader {names[1]} with")
    counted = re.search(r"ReadAheadReader: (\d+) laws: (\d+) held, 0 broken, 0 skipped", good)
    assert counted is not None
    assert counted[1] == counted[2]
    [shown] = [block for block in GUIDE.blocks if block.language == "text"]
    assert [line for line in shown.text.splitlines() if line not in bad.splitlines()] == []


def test_the_subclasses_that_the_guide_shows_run(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(GUIDE.python().lstrip("\n"), encoding="utf-8")
    # One law of each kind: the suites themselves are run elsewhere.
    chosen = "torch_load or reads_no_byte_twice or nothing_is_visible"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-k", chosen, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed is not None
    assert int(passed[1]) >= 4
