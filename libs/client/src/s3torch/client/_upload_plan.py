"""How an upload is cut into parts: pure arithmetic.

Bounds by "Amazon S3 multipart upload limits": 10,000 parts, each of 5 MiB to 5 GiB but for the last.
"""

from __future__ import annotations

__all__ = ["LARGEST_PART", "MOST_PARTS", "equal_part_size", "part_size_at", "patience"]

_MIB = 1024 * 1024
MOST_PARTS = 10_000
LARGEST_PART = 5 * 1024 * _MIB

# Some stores (Cloudflare R2) take only parts of equal size, so an upload of unknown length keeps to one size as long as
# it can: with 8 MiB parts up to 35 GiB. Then it doubles often enough for the least part size to reach 5 TiB.
_EQUAL_PARTS = 4_500
_PARTS_PER_DOUBLING = 500

# Bytes per second. At this speed the network takes bytes about as fast as a copy and a caller can make them, so that
# waiting costs less than copying; below, the caller had better go on meanwhile.
_FAST = 0.5e9
_LEAST_PATIENCE_S = 0.003


def part_size_at(number: int, first: int) -> int:
    """Size of a part of an upload whose length nobody knows yet.

    Args:
        number: Part number, from 1.
        first: Bytes in the first part.

    Returns:
        Bytes in part ``number``, if it is not the last: the same for the first 4,500 parts, then growing so that
        10,000 parts hold at least 5 TiB.
    """
    doublings = max(0, -(-(number - _EQUAL_PARTS) // _PARTS_PER_DOUBLING))
    return max(first, min(first << doublings, LARGEST_PART))


def equal_part_size(total: int, least: int) -> int:
    """Size of all parts but the last of an upload of known length.

    Args:
        total: Bytes in the object.
        least: Bytes that a part should have.

    Returns:
        ``least``, or as many whole MiB as it takes to make do with 10,000 parts.
    """
    if total <= least * MOST_PARTS:
        return least
    return -(-total // (MOST_PARTS * _MIB)) * _MIB


def patience(size: int) -> float:
    """How long to wait for ``size`` bytes to be sent from the caller's memory before copying what is left of them.

    Returns:
        Seconds: what sending takes on a network that is worth waiting for.
    """
    return _LEAST_PATIENCE_S + size / _FAST
