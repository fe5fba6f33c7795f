"""Comparing bytes in a law."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["same"]


def same(found: Buffer, expected: Buffer) -> bool:
    """Tell whether two pieces of memory hold the same bytes.

    Of ``found == expected`` pytest would show how they differ, and where it does not shorten what it shows, as in
    continuous integration, looking for that takes minutes.
    """
    return memoryview(found).cast("B") == memoryview(expected).cast("B")
