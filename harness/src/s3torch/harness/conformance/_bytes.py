"""Comparing bytes in a law.

Of ``found == expected`` pytest shows how they differ, and where it does not shorten what it shows, as in continuous
integration, looking for that takes minutes from some ten thousand bytes on: laws ask by these functions instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from s3torch.harness.conformance.arrangement import Arrangement

__all__ = ["all_same", "holds", "same"]


def same(found: Buffer, expected: Buffer) -> bool:
    """Tell whether two pieces of memory hold the same bytes."""
    return memoryview(found).cast("B") == memoryview(expected).cast("B")


def all_same(found: Sequence[Buffer], expected: Sequence[Buffer]) -> bool:
    """Tell whether pieces of memory, as many and in the same order, hold the same bytes."""
    return len(found) == len(expected) and all(map(same, found, expected))


def holds(arrangement: Arrangement, bucket: str, key: str, data: Buffer) -> bool:
    """Tell whether there is an object, and it has these bytes."""
    found = arrangement.get(bucket, key)
    return found is not None and same(found, data)
