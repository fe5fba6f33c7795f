"""The CRC-32 of torch's archives."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import cast

__all__ = ["without_archive_crc"]


def without_archive_crc() -> AbstractContextManager[None]:
    """Let `torch.save` leave it out within a ``with`` block, in this thread only; torch can do so from 2.7 on."""
    try:
        from torch.utils.serialization import config
    except ImportError:  # torch 2.6
        return nullcontext()
    patch = config.patch  # type: ignore[attr-defined]  # torch adds it while importing the module
    return cast("AbstractContextManager[None]", patch({"save.compute_crc32": False}))
