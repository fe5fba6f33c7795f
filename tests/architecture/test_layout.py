"""Every member has the same shape, one version, and a place in the workspace's configuration."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.architecture.conftest import Member


def siblings_declared(member: Member) -> dict[str, str]:
    """The workspace's distributions a member requires, extras included, with the version each asks for."""
    required = [*member.project["dependencies"]]
    for extra in member.project.get("optional-dependencies", {}).values():
        required += extra
    pairs = (re.fullmatch(r"(s3torch[\w-]*)(?:\[[\w,-]+\])?(.*)", requirement) for requirement in required)
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


def modules_imported(source: Path) -> set[str]:
    """Every module that a tree of sources imports, wherever the statement stands."""
    found = set[str]()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_workspace_has_the_members_of_the_design(members: list[Member]) -> None:
    assert {member.name for member in members} >= {
        "libs/client",
        "libs/readers",
        "libs/writer",
        "libs/datasets",
        "libs/checkpoint",
        "integrations/dcp",
        "integrations/lightning",
        "integrations/s3torch",
        "harness",
    }


def test_a_member_is_complete(member: Member) -> None:
    for entry in ["README.md", "LICENSE", "src", "tests"]:
        assert (member.folder / entry).exists(), f"{member.name} has no {entry}"
    assert list((member.folder / "tests").rglob("test_*.py")), f"{member.name} has no test"


def test_folder_distribution_and_import_share_a_name(member: Member) -> None:
    if member.name == "integrations/s3torch":
        assert member.project["name"] == "s3torch"
        assert member.packages == ["s3torch.cli", "s3torchconnector", "s3torchconnectorclient"]
    else:
        assert member.project["name"] == f"s3torch-{member.folder.name}"
        assert member.packages == [f"s3torch.{member.folder.name}"]


def test_all_members_have_one_version_and_one_oldest_python(members: list[Member]) -> None:
    assert len({member.project["version"] for member in members}) == 1
    assert {member.project["requires-python"] for member in members} == {">=3.10"}


def test_a_member_pins_its_siblings_to_its_own_version(member: Member) -> None:
    pinned = f"=={member.project['version']}"
    assert {name: version for name, version in siblings_declared(member).items() if version != pinned} == {}


def test_a_member_declares_the_siblings_it_imports(member: Member, members: list[Member]) -> None:
    owner = {package: other.project["name"] for other in members for package in other.packages}
    imported = modules_imported(member.source)
    used = {name for package, name in owner.items() if package in imported}
    used |= {name for package, name in owner.items() if any(module.startswith(f"{package}.") for module in imported)}
    assert used - {member.project["name"]} <= set(siblings_declared(member))


def test_client_readers_and_writer_do_not_require_torch(members: list[Member]) -> None:
    light = [member for member in members if member.name in {"libs/client", "libs/readers", "libs/writer"}]
    assert len(light) == 3
    for member in light:
        assert not [requirement for requirement in member.project["dependencies"] if requirement.startswith("torch")]


def test_a_member_carries_the_license(member: Member, root: Path) -> None:
    assert (member.folder / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()
    assert member.project["license"] == "Apache-2.0"


def test_the_import_contracts_and_mypy_know_every_package(members: list[Member], workspace: dict[str, Any]) -> None:
    packages = {package for member in members for package in member.packages}
    linter = workspace["tool"]["importlinter"]
    assert set(linter["root_packages"]) == packages
    layered, shipped, _ = linter["contracts"]
    assert set(re.findall(r"[\w.]+", " ".join(layered["layers"]))) == packages - {"s3torch.harness"}
    assert set(shipped["source_modules"]) == packages - {"s3torch.harness"}
    sources = {f"$MYPY_CONFIG_FILE_DIR/{member.name}/src" for member in members}
    assert set(workspace["tool"]["mypy"]["mypy_path"]) == {*sources, "$MYPY_CONFIG_FILE_DIR/docs"}
    assert set(workspace["tool"]["uv"]["sources"]) == {member.project["name"] for member in members}


def test_tools_are_pinned_exactly(workspace: dict[str, Any]) -> None:
    pins = workspace["tool"]["uv"]["constraint-dependencies"]
    assert [pin for pin in pins if not re.match(r"[\w-]+==[\w.]+(;|$)", pin)] == []
    pinned = {pin.split("==")[0] for pin in pins}
    tools = [entry for group in ("lint", "test", "types") for entry in workspace["dependency-groups"][group]]
    assert set(tools) <= pinned


def test_no_folder_has_a_name_that_says_nothing(member: Member) -> None:
    folders = {path.name for path in member.source.rglob("*") if path.is_dir()}
    assert not folders & {"core", "common", "util", "utils", "helpers", "misc"}


def test_no_lock_file_is_kept(root: Path) -> None:
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run([git, "ls-files"], cwd=root, check=True, capture_output=True, text=True, timeout=30).stdout
    assert "noxfile.py" in tracked
    assert not [path for path in tracked.splitlines() if path.endswith(".lock")]
