"""The pages of the documentation and what is in them, for tests that hold for each page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3torch.harness.servers import MotoServer

ROOT = Path(__file__).parents[2]
PREAMBLES = Path(__file__).parent / "preambles"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    line: int
    """Number of its first line in the page, from 1."""
    text: str


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Where it lies in the checkout."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        return list(find_blocks(self.text))

    @property
    def prose(self) -> str:
        """The text without its fenced blocks, line for line."""
        return prose_of(self.text)

    def python(self) -> str:
        """All Python blocks as one source, each line at its number in the page."""
        lines = [""] * (self.text.count("\n") + 1)
        for block in self.blocks:
            if block.language == "python":
                for offset, line in enumerate(block.text.splitlines()):
                    lines[block.line - 1 + offset] = line
        return "\n".join(lines)

    @property
    def preamble(self) -> Path:
        """What prepares the ground for the page's examples, unseen by the reader; need not exist."""
        return PREAMBLES / (self.name.removesuffix(".md").replace("/", "-").lower() + ".py")


def find_blocks(text: str) -> Iterator[Block]:
    opened: tuple[str, str, int] | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, body = (fence["language"], fence["indent"], number + 1), []
        elif fence and not fence["language"]:
            yield Block(opened[0], opened[2], "\n".join(body))
            opened = None
        else:
            body.append(line.removeprefix(opened[1]))
    if opened is not None:
        raise ValueError(f"the block that begins at line {opened[2]} has no end")


def prose_of(text: str) -> str:
    inside, lines = False, []
    for line in text.splitlines():
        is_fence = bool(_FENCE.match(line))
        lines.append("" if inside or is_fence else line)
        inside = inside != is_fence
    return "\n".join(lines)


def find_pages() -> list[Page]:
    patterns = ("README.md", "libs/*/README.md", "integrations/*/README.md", "harness/README.md", "docs/**/*.md")
    return [Page(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


PAGES = find_pages()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: page.name)
    if "page_with_python" in metafunc.fixturenames:
        pages = [page for page in PAGES if any(block.language == "python" for block in page.blocks)]
        metafunc.parametrize("page_with_python", pages, ids=lambda page: page.name)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    return PAGES


@pytest.fixture(scope="session")
def documented_server() -> Iterator[MotoServer]:
    """A server whose buckets bear the names that the pages use."""
    with MotoServer() as server:
        yield server


@pytest.fixture
def my_bucket(documented_server: MotoServer) -> MotoServer:
    """The server, empty but for the bucket that every page may use."""
    documented_server.reset()
    documented_server.create_bucket("my-bucket")
    return documented_server
