"""The bytes that `torch.save` puts around a tensor's elements.

They are the same for all tensors of one shape and type, once the archive's CRC is left out: so they are learnt once
from `torch.save` itself, and the elements go straight from the tensor's memory to the store.
"""

from __future__ import annotations

import struct
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import torch

from s3torch.checkpoint.archive_crc import without_archive_crc
from s3torch.dcp._tensor_memory import byte_view, is_plain

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Archive", "ArchiveMaker", "stand_alone"]

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_SIGNATURE = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Archive:
    """A tensor's archive without its elements."""

    head: bytes
    """What comes before them."""
    tail: bytes
    """What comes after them."""


class ArchiveMaker:
    """Makes archives, one for each shape and type.

    Args:
        has_crc: Have torch compute the CRC-32 of every tensor's elements; otherwise it is left out, where torch can
            (from 2.7).
    """

    def __init__(self, *, has_crc: bool = False) -> None:
        self.has_crc = has_crc or not _can_leave_crc_out()
        """Whether the elements must be read, so that they must be on the CPU."""
        self._kept: dict[tuple[torch.dtype, torch.Size], Archive | None] = {}

    def make(self, tensor: torch.Tensor) -> Archive | None:
        """Return the archive of a plain tensor; None if torch lays it out in an unforeseen way.

        Args:
            tensor: The tensor, dense and not empty. It may be a view: only its own elements count.
        """
        if self.has_crc:
            return _learn(tensor)
        key = (tensor.dtype, tensor.shape)
        if key not in self._kept:
            # Without a CRC nobody looks at the elements, so fresh memory will do, which stays untouched.
            like = tensor if tensor.device.type == "cpu" else torch.empty(key[1], dtype=key[0], device="cpu")
            with without_archive_crc():
                self._kept[key] = _learn(like)
        return self._kept[key]


def _can_leave_crc_out() -> bool:
    return not isinstance(without_archive_crc(), nullcontext)


def _learn(tensor: torch.Tensor) -> Archive | None:
    recorder = _Recorder(tensor.nbytes)
    torch.save(stand_alone(tensor), cast("IO[bytes]", recorder))
    return recorder.archive


def stand_alone(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose storage has its elements and no others, in the same memory where that can be.

    Args:
        tensor: The tensor, on the CPU.
    """
    if tensor.layout is not torch.strided or tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    if not is_plain(tensor) or not tensor.nbytes:
        return tensor.clone()
    return torch.frombuffer(byte_view(tensor), dtype=torch.uint8).view(tensor.dtype).view(tensor.shape)


class _Recorder:
    """A file that keeps all but the content of the record of the first storage."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0
        self._pieces: list[bytes] = []
        self._head: bytes | None = None
        self._name_at = self._content_at = -1

    @property
    def archive(self) -> Archive | None:
        """What was kept; None if the content was never written, or not at once."""
        return None if self._head is None else Archive(self._head, b"".join(self._pieces))

    def write(self, data: Buffer) -> int:
        """Take what torch writes: of each record its header, name, padding, content, and what follows it."""
        view = memoryview(data).cast("B")
        if self._head is None and self._position == self._content_at and view.nbytes == self._size:
            self._head = b"".join(self._pieces)
            self._pieces = []
        else:
            piece = bytes(view)
            self._pieces.append(piece)
            if self._position == self._name_at:
                if not piece.endswith(b"/data/0"):
                    self._content_at = -1
            elif piece.startswith(_SIGNATURE) and len(piece) == _LOCAL_HEADER.size:
                name_length, extra_length = _LOCAL_HEADER.unpack(piece)[-2:]
                self._name_at = self._position + len(piece)
                self._content_at = self._name_at + name_length + extra_length
        self._position += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Do nothing."""
