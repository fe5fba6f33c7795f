"""A scenario with other sizes, and a title that tells the truth about them. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from s3torch.harness.bench.scenario import GIB, MIB, Scenario

_PART_OF = re.compile(r"\b(\d+) MiB of ")


def resized(scenario: Scenario, *, size: int | None = None, count: int | None = None) -> Scenario:
    """Return a scenario with objects of another size, or with another number of them.

    Args:
        scenario: Its title may name both.
        size: Bytes of each object; None leaves it.
        count: Objects; None leaves it.
    """
    title = scenario.title
    if size is not None and size != scenario.size:
        portion = size / scenario.size
        title = _PART_OF.sub(lambda found: f"{size_text(int(found[1]) * MIB * portion)} of ", title)
        title = title.replace(size_text(scenario.size), size_text(size))
    if count is not None and count != scenario.count:
        title = re.sub(rf"\b{scenario.count:,} (?=objects|keys)", f"{count:,} ", title)
    return replace(
        scenario,
        title=title,
        size=scenario.size if size is None else size,
        count=scenario.count if count is None else count,
    )


def size_text(size: float) -> str:
    """Return a size as titles name it: ``1 GiB``, ``256 MiB``."""
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:.4g} MiB"
