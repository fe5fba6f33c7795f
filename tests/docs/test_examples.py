"""Every Python block of every page runs, in order, page by page, against a server."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._address import own_environment

if TYPE_CHECKING:
    from tests.docs.conftest import Page

# One process for each page. Its preamble and its blocks share one namespace; a traceback names the page's own line.
# Tests that a page shows are called with what the preamble has under their fixtures' names.
RUNNER = """
import multiprocessing, sys
multiprocessing.set_start_method("fork")
page, source, preamble = sys.argv[1:]
names = {"__name__": "__main__"}
for title, path in ((preamble, preamble), (page, source)):
    if path:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), title, "exec"), names)
for name, test in [*names.items()]:
    if name.startswith("test_"):
        test(*(names[wanted] for wanted in test.__code__.co_varnames[: test.__code__.co_argcount]))
"""

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="the examples' functions are in no importable module, which DataLoader workers need elsewhere",
)


def run(source: Path, title: str, preamble: Path | None, server: MotoServer) -> subprocess.CompletedProcess[str]:
    env = {**own_environment(), **server.env()}
    # Newer Pythons warn of a fork beside any thread, and torch computes with threads.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *warnings, "-c", RUNNER, title, str(source), str(preamble or "")]
    return subprocess.run(command, env=env, cwd=source.parent, capture_output=True, text=True, timeout=110, check=False)


@needs_fork
def test_the_examples_run(page_with_python: Page, my_bucket: MotoServer, tmp_path: Path) -> None:
    source = tmp_path / "page.py"
    source.write_text(page_with_python.python(), encoding="utf-8")
    preamble = page_with_python.preamble if page_with_python.preamble.exists() else None
    finished = run(source, page_with_python.name, preamble, my_bucket)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@needs_fork
def test_an_example_that_fails_is_seen_at_its_line(my_bucket: MotoServer, tmp_path: Path) -> None:
    """Guards the test above."""
    source = tmp_path / "page.py"
    source.write_text("\n\nassert 1 == 2, 'no'\n", encoding="utf-8")
    finished = run(source, "docs/page.md", None, my_bucket)
    assert finished.returncode == 1
    assert 'File "docs/page.md", line 3' in finished.stderr


def test_every_preamble_has_a_page(pages: list[Page]) -> None:
    preambles = {path.name for path in (Path(__file__).parent / "preambles").glob("*.py")}
    assert preambles <= {page.preamble.name for page in pages}
