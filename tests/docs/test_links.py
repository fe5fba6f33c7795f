"""Every relative link leads to a file that is there, and to a heading that is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.docs.conftest import Page

LINK = re.compile(r"(?<!\\)\[[^\]]*\]\((?P<target>[^)\s]+)\)|(?:src|href)=\"(?P<attribute>[^\"]+)\"")
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def slugs_of(prose: str) -> set[str]:
    """The anchors of a page's headings, as the common forges make them."""
    slugs = set[str]()
    for heading in HEADING.findall(prose):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        unique = slug
        while unique in slugs:
            unique, number = f"{slug}-{number}", number + 1
        slugs.add(unique)
    return slugs


def broken_links(path: Path, prose: str) -> list[str]:
    broken = []
    for match in LINK.finditer(CODE.sub("", prose)):
        target = match["target"] or match["attribute"]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # another site; the tests use no network
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        if not aim.exists():
            broken.append(f"{target}: no such file")
        elif anchor and anchor not in slugs_of(aim.read_text(encoding="utf-8")):
            broken.append(f"{target}: no such heading")
    return broken


def test_relative_links_lead_somewhere(page: Page) -> None:
    assert broken_links(page.path, page.prose) == []


def test_every_page_of_the_docs_is_linked(pages: list[Page], root: Path) -> None:
    linked = set[Path]()
    for page in pages:
        for match in LINK.finditer(page.prose):
            target = (match["target"] or match["attribute"]).partition("#")[0]
            linked.add((page.path.parent / target).resolve())
    unlinked = {page.path for page in pages if page.path.is_relative_to(root / "docs")} - linked
    assert unlinked == set()


@pytest.mark.parametrize(
    ("link", "problem"),
    [("[a](no.md)", "no.md: no such file"), ("[a](page.md#other)", "page.md#other: no such heading")],
)
def test_a_broken_link_is_found(link: str, problem: str, tmp_path: Path) -> None:
    """Guards the tests above."""
    page = tmp_path / "page.md"
    page.write_text("# The `heading`, of it\n", encoding="utf-8")
    assert broken_links(page, link) == [problem]
    assert broken_links(page, "[a](page.md#the-heading-of-it) [b](#the-heading-of-it) [c](https://example.org/)") == []
