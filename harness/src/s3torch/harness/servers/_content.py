"""Reproducible content for objects."""

from __future__ import annotations

import random
from pathlib import Path

_BLOCK = 1024 * 1024


def write_content(path: Path, size: int, *, seed: int = 0) -> None:
    """Write a file in which no two aligned MiB are equal, so that bytes in a wrong place show.

    Args:
        path: The file; folders that lead to it are made.
        size: Its length in bytes.
        seed: Another one gives other content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    block = random.Random(seed).randbytes(min(size, _BLOCK))
    with path.open("wb") as file:
        for number, start in enumerate(range(0, size, _BLOCK)):
            file.write((number.to_bytes(8, "little") + block[8:])[: size - start])
