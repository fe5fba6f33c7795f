from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("other", ["s3torchconnector", "s3torchconnectorclient"])
@pytest.mark.parametrize("imported", ["s3torchconnector", "s3torchconnectorclient", "s3torchconnector.s3reader"])
def test_importing_beside_another_supplier_of_the_name_says_so(tmp_path: Path, other: str, imported: str) -> None:
    info = tmp_path / f"{other}-1.5.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 1.5.0\n")
    finished = run(tmp_path, f"import {imported}")
    assert finished.returncode == 1
    error = finished.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: s3torch supplies")
    assert f"{other} 1.5.0" in error
    assert "pip uninstall s3torchconnector s3torchconnectorclient" in error


@pytest.mark.parametrize("imported", ["s3torchconnector", "s3torchconnectorclient"])
def test_importing_alone_says_nothing(tmp_path: Path, imported: str) -> None:
    finished = run(tmp_path, f"import {imported}")
    assert (finished.returncode, finished.stderr) == (0, "")
