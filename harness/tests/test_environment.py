"""Environments of their own: made once, shared, mended, and never half made."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3torch.harness.servers.environment import EnvironmentSetupError, make_environment


@pytest.fixture
def project(tmp_path: Path) -> str:
    """A distribution without dependencies, so that nothing is asked of an index."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "s3torch_probe.py").write_text("print('found')\n", encoding="utf-8")
    (folder / "probe_build.py").write_text(BACKEND, encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "probe_build"\nbackend-path = ["."]\n'
        '[project]\nname = "s3torch-probe"\nversion = "1"\n',
        encoding="utf-8",
    )
    return str(folder)


# What a build backend has to do, so that the test needs none from an index.
BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "s3torch_probe-1-py3-none-any.whl"
    info = "s3torch_probe-1.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("s3torch_probe.py", Path("s3torch_probe.py").read_text())
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: s3torch-probe\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def answer(python: str) -> str:
    return subprocess.run(
        [python, "-I", "-m", "s3torch_probe"], capture_output=True, text=True, timeout=30, check=False
    ).stdout


def test_is_made_once_and_holds_what_was_asked(tmp_path: Path, project: str) -> None:
    python = make_environment("probe", [project], folder=tmp_path / "cache")
    assert answer(python) == "found\n"
    marker = Path(python).parent.parent / "marker"
    marker.touch()
    assert make_environment("probe", [project], folder=tmp_path / "cache") == python
    assert marker.exists()
    assert make_environment("probe", [f"{project}/"], folder=tmp_path / "cache") != python


def test_what_was_left_half_made_is_made_anew(tmp_path: Path, project: str) -> None:
    python = Path(make_environment("probe", [project], folder=tmp_path / "cache"))
    (python.parent.parent / ".complete").unlink()
    python.unlink()
    assert answer(make_environment("probe", [project], folder=tmp_path / "cache")) == "found\n"
    python.unlink()
    assert answer(make_environment("probe", [project], folder=tmp_path / "cache")) == "found\n"


def test_many_may_ask_at_once(tmp_path: Path, project: str) -> None:
    program = (
        "import sys; from pathlib import Path; from s3torch.harness.servers.environment import make_environment; "
        "print(make_environment('probe', [sys.argv[1]], folder=Path(sys.argv[2])))"
    )

    def ask(_number: int) -> str:
        command = [sys.executable, "-c", program, project, str(tmp_path / "cache")]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()

    with ThreadPoolExecutor(3) as pool:
        pythons = set(pool.map(ask, range(3)))
    assert len(pythons) == 1
    assert answer(pythons.pop()) == "found\n"


def test_a_failure_is_an_error_with_the_installers_words(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentSetupError, match="no-such-folder"):
        make_environment("probe", [str(tmp_path / "no-such-folder")], folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/.complete"))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentSetupError, match="file"):
        make_environment("probe", ["pip"], folder=tmp_path / "file" / "cache")


@pytest.mark.slow  # venv puts pip into it
def test_works_without_uv(tmp_path: Path, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert answer(make_environment("probe", [project], folder=tmp_path / "cache")) == "found\n"
