"""Checksums of what is sent and read: CRC64NVME, CRC32C and CRC32 in base64, as S3's headers carry them.

``awscrt``, where it is installed, computes the first two at memory speed; the standard library has CRC32.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from s3torch.client.config import ChecksumAlgorithm

__all__ = ["choose_algorithm", "compute", "crc32", "find_checksum"]

_HEADER = "x-amz-checksum-"
# Fastest first: what a response offers is compared with the first of these that can be computed.
_PREFERRED = tuple((name, f"{_HEADER}{name}".encode()) for name in ("crc64nvme", "crc32c", "crc32", "sha256", "sha1"))


@lru_cache(maxsize=1)
def _awscrt() -> Any:
    try:
        from awscrt import checksums
    except ImportError:
        return None
    return checksums


def choose_algorithm(wanted: ChecksumAlgorithm, *, is_amazon: bool) -> str | None:
    """Settle which checksum uploads carry.

    Args:
        wanted: The option.
        is_amazon: Whether the store is Amazon's own: CRC64NVME is young, and other stores know CRC32C and CRC32.

    Returns:
        The algorithm, or None for no checksum.

    Raises:
        ValueError: The algorithm needs ``awscrt``, which is not installed.
    """
    if wanted == "none":
        return None
    if wanted == "auto":
        if _awscrt() is None:
            return "crc32"
        return "crc64nvme" if is_amazon else "crc32c"
    if wanted != "crc32" and _awscrt() is None:
        raise ValueError(f"checksum {wanted!r} needs awscrt: pip install 's3torch-client[crt]'")
    return wanted


def compute(algorithm: str, pieces: Iterable[memoryview]) -> str:
    """Return the checksum of some bytes.

    Args:
        algorithm: ``crc64nvme``, ``crc32c``, ``crc32``, ``sha256`` or ``sha1``.
        pieces: The bytes, one piece after the other.

    Returns:
        The checksum in base64, most significant byte first.
    """
    if algorithm in ("sha256", "sha1"):
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for piece in pieces:
            digest.update(piece)
        return base64.b64encode(digest.digest()).decode()
    update, size = _crc(algorithm)
    value = 0
    for piece in pieces:
        value = update(piece, value)
    return base64.b64encode(value.to_bytes(size, "big")).decode()


def crc32(data: memoryview) -> int:
    """Return the CRC-32 of some bytes.

    Args:
        data: The bytes, contiguous.
    """
    return _crc("crc32")[0](data, 0)


def _crc(algorithm: str) -> tuple[Callable[[memoryview, int], int], int]:
    crt = _awscrt()
    if algorithm == "crc32":
        # awscrt's is several times faster than zlib's.
        return (zlib.crc32 if crt is None else crt.crc32), 4
    if crt is None:
        raise ValueError(f"checksum {algorithm!r} needs awscrt: pip install 's3torch-client[crt]'")
    return (crt.crc32c, 4) if algorithm == "crc32c" else (crt.crc64nvme, 8)


def find_checksum(headers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
    """Find a checksum of the whole object among a response's headers.

    Args:
        headers: Names in lower case to values.

    Returns:
        Algorithm and value; None where there is none that can be computed. A checksum of part checksums (it ends in
        ``-N``) says nothing of the bytes themselves.
    """
    for algorithm, header in _PREFERRED:
        value = headers.get(header)
        if value is None or b"-" in value:
            continue
        if algorithm in ("crc64nvme", "crc32c") and _awscrt() is None:
            continue
        return algorithm, value.decode("latin-1")
    return None
