"""The members of the workspace, for tests that hold for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Member:
    """A distribution of the workspace."""

    folder: Path
    project: dict[str, Any]
    leaves: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Where it lies in the checkout."""
        return self.folder.relative_to(ROOT).as_posix()

    @property
    def source(self) -> Path:
        """The folder its imports start from."""
        return self.folder / "src"

    @property
    def packages(self) -> list[str]:
        """The dotted names of its import packages."""
        return [".".join(leaf.relative_to(self.source).parts) for leaf in self.leaves]


def toml(path: Path) -> dict[str, Any]:
    return tomli.loads(path.read_text(encoding="utf-8"))


def leaves_below(folder: Path) -> list[Path]:
    """The topmost folders that are regular packages: what lies above them is namespace."""
    if (folder / "__init__.py").exists():
        return [folder]
    return [leaf for child in sorted(folder.iterdir()) if child.is_dir() for leaf in leaves_below(child)]


def read_members() -> list[Member]:
    patterns = toml(ROOT / "pyproject.toml")["tool"]["uv"]["workspace"]["members"]
    folders = sorted(path.parent for pattern in patterns for path in ROOT.glob(f"{pattern}/pyproject.toml"))
    return [
        Member(folder, toml(folder / "pyproject.toml")["project"], tuple(leaves_below(folder / "src")))
        for folder in folders
    ]


MEMBERS = read_members()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def workspace() -> dict[str, Any]:
    return toml(ROOT / "pyproject.toml")


@pytest.fixture(scope="session")
def members() -> list[Member]:
    return MEMBERS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "member" in metafunc.fixturenames:
        metafunc.parametrize("member", MEMBERS, ids=lambda member: member.name)
    if "any_package" in metafunc.fixturenames:
        metafunc.parametrize("any_package", sorted(package for member in MEMBERS for package in member.packages))
