"""Every command that a page shows exists, with the options that the page gives it."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli

if TYPE_CHECKING:
    from tests.docs.conftest import Page

SHELLS = {"console", "bash", "sh", "shell"}
ROOT = Path(__file__).parents[2]
# Programs of the reader's own that a page may mention.
FOREIGN = {"git", "export", "cd", "torchrun"}


@functools.cache
def help_of(command: tuple[str, ...]) -> str:
    shown = subprocess.run(
        [sys.executable, "-m", "s3torch.cli", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        # Wide, so that no option is wrapped.
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@functools.cache
def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any("nox.session" in ast.unparse(d) for d in node.decorator_list)}


@functools.cache
def distributions() -> dict[str, set[str]]:
    """The workspace's distributions and their extras."""
    found: dict[str, set[str]] = {}
    for file in [*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("integrations/*/pyproject.toml")]:
        project: dict[str, Any] = tomli.loads(file.read_text(encoding="utf-8"))["project"]
        found[project["name"]] = set(project.get("optional-dependencies", {}))
    found["s3torch-harness"] = {"bench"}
    return found


def commands_of(text: str) -> list[list[str]]:
    """The commands of a block: of a session with prompts only what follows them."""
    lines = text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    words = [shlex.split(line, comments=True) for line in lines]
    commands = []
    for line in words:
        command: list[str] = []
        for word in [*line, "&&"]:
            if word == "&&":
                commands.append(command)
                command = []
            else:
                command.append(word)
    return [command for command in commands if command]


def problem_of(command: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    while command and re.fullmatch(r"\w+=.*", command[0]):
        command = command[1:]
    if command[:2] == ["uv", "run"]:
        command = command[2:]
    if not command or command[0] in FOREIGN:
        return None
    program, *words = command
    if program in ("pip", "uv") and "install" in words:
        for word in words[words.index("install") + 1 :]:
            name, _, extras = word.rstrip("]").partition("[")
            if name not in distributions() and name not in ("uv", "s3torch"):
                return f"installs {name!r}, which is not ours"
            if unknown := set(filter(None, extras.split(","))) - distributions().get(name, set()):
                return f"{name} has no extra {unknown}"
        return None
    if program == "nox":
        named = [words[index + 1] for index, word in enumerate(words) if word == "-s"]
        return f"there is no session {set(named) - sessions()}" if set(named) - sessions() else None
    if program == "s3torch":
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        subcommand = tuple(words[:1]) if words and not words[0].startswith("-") else ()
        shown = help_of(subcommand)
        missing = [option for option in options if not re.search(rf"(?<!\S){option}(?![\w-])", shown)]
        return f"`s3torch {' '.join(subcommand)}` has no {missing}" if missing else None
    if program == "python" and words[:1] == ["-m"]:
        return None if importlib.util.find_spec(words[1]) else f"there is no module {words[1]}"
    if program in ("pytest", "python"):
        return None
    return "unknown program; teach this test about it or show it as text"


def test_commands_and_their_options_exist(page: Page) -> None:
    problems = [
        f"line {block.line}: {' '.join(command)}: {problem}"
        for block in page.blocks
        if block.language in SHELLS
        for command in commands_of(block.text)
        if (problem := problem_of(command)) is not None
    ]
    assert problems == []


@pytest.mark.parametrize(
    "command",
    ["s3torch demo --no-such-option", "nox -s no_such_session", "pip install s3torch[nothing]", "pip install other",
     "python -m s3torch.nothing", "frobnicate"],
)  # fmt: skip
def test_a_wrong_command_is_found(command: str) -> None:
    """Guards the test above."""
    assert problem_of(command.split()) is not None


def test_the_readme_begins_with_the_two_commands(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    test_command = "pip install uv && uv run nox"
    assert "pip install uv && uv run s3torch demo\n" in text
    assert f"{test_command}\n" in text
    assert f"\n{test_command}\n" in (root / ".ci" / "run").read_text(encoding="utf-8")
