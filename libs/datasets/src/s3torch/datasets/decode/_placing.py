"""Decoders that say where an object's bytes go before they come: from the socket into their place."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Allocate", "Placing", "TensorReader", "allocate_for", "tensor_behind"]

Allocate: TypeAlias = Callable[[int], torch.Tensor]
"""Given a number of bytes, returns a one-dimensional tensor of uint8 of that size, which may hold anything."""


class Placing(ABC):
    """Base of the transforms that may say where an object's bytes go."""

    @abstractmethod
    def __call__(self, sample: Any, /) -> Any:
        """Make a sample."""

    def allocate_for(self, key: str) -> Allocate | None:  # noqa: ARG002  # those that do, look at it
        """Say who gives the memory for an object's bytes.

        Args:
            key: The object's key.

        Returns:
            A function that is called when the object's size is known. The transform is then given a `TensorReader` on
            that memory, if all of the object was fetched before its turn. None leaves the memory to the reader.
        """
        return None


def allocate_for(transform: Callable[..., Any], key: str) -> Allocate | None:
    """Ask a transform of any kind, as in `Placing`."""
    return transform.allocate_for(key) if isinstance(transform, Placing) else None


class TensorReader:
    """A reader of an object whose bytes are in a tensor.

    Args:
        bucket: The object's bucket.
        key: Its key.
        tensor: All of its bytes.
    """

    def __init__(self, bucket: str, key: str, tensor: torch.Tensor) -> None:
        self.bucket = bucket
        self.key = key
        self.tensor = tensor
        self._position = 0

    def read(self, size: int | None = None, /) -> bytes:
        """Return a copy of the bytes that follow, all of them by default."""
        return bytes(self._take(self.tensor.numel() if size is None or size < 0 else size))

    def readinto(self, buf: Buffer, /) -> int:
        """Fill a buffer with a copy of the bytes that follow, as far as there are any."""
        target = memoryview(buf).cast("B")
        found = self._take(target.nbytes)
        target[: found.nbytes] = found
        return found.nbytes

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move, no further than the end."""
        size = self.tensor.numel()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = min(size, start + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _take(self, size: int) -> memoryview:
        found = self.tensor.numpy().data[self._position : self._position + size]
        self._position += found.nbytes
        return found


def tensor_behind(data: bytes | memoryview | None) -> torch.Tensor | None:
    """Return the tensor whose memory bytes are that were received into ``tensor.numpy().data``; None for any others."""
    array: Any = data.obj if isinstance(data, memoryview) else None
    base: Any = array.base if isinstance(array, np.ndarray) else None
    return base if isinstance(base, torch.Tensor) and base.nbytes == len(data or b"") else None
