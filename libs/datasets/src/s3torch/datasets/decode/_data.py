"""Decoders of data: bytes, tensors, arrays, and the formats that hold them."""

from __future__ import annotations

import codecs
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from s3torch.datasets.decode._decoder import Decoder, Readable, require
from s3torch.datasets.decode._memory import new_tensor
from s3torch.datasets.decode._placing import Allocate, TensorReader

__all__ = ["Json", "Numpy", "Raw", "Safetensors", "Tensor", "Text", "TorchLoad"]


@dataclass(frozen=True, slots=True)
class Raw(Decoder[bytes]):
    """The bytes as they are."""

    what = "bytes"

    def decode(self, reader: Readable) -> bytes:
        """Return all bytes."""
        return reader.read()


@dataclass(frozen=True, slots=True)
class Tensor(Decoder[torch.Tensor]):
    """The bytes as a one-dimensional tensor of uint8.

    Datasets that fetch ahead receive small objects straight into it, from the socket; large ones are read into it in
    parallel parts. Nothing is copied in between.

    Args:
        shared: Put it into shared memory, so that a ``DataLoader`` worker hands it on without copying it again. Worth
            it where batches are not stacked into one tensor (``batch_size=None``); each such tensor takes a file
            descriptor while it lives, where descriptors are how torch shares memory.
        pinned: Put it into memory from which an accelerator copies while the processor goes on
            (``tensor.to(device, non_blocking=True)``). Ordinary memory where there is no accelerator, and in
            ``DataLoader`` workers: they are to leave it alone, and the loader's own ``pin_memory`` is for them.

    Raises:
        ValueError: Both are wanted.
    """

    shared: bool = False
    pinned: bool = False

    what = "bytes"

    def __post_init__(self) -> None:
        """Refuse what cannot be had."""
        if self.shared and self.pinned:
            raise ValueError("decode.Tensor can be shared or pinned, not both")

    def allocate_for(self, key: str) -> Allocate:  # noqa: ARG002  # the same for all
        """Return what makes its memory."""
        return self._allocate

    def decode(self, reader: Readable) -> torch.Tensor:
        """Return the bytes as a tensor that owns its memory."""
        if isinstance(reader, TensorReader):
            return reader.tensor
        start = reader.tell()
        size = reader.seek(0, io.SEEK_END) - start
        reader.seek(start)
        tensor = self._allocate(size)
        if (filled := reader.readinto(tensor.numpy().data)) != size:
            raise EOFError(f"{filled} bytes of {size}")
        return tensor

    def _allocate(self, size: int) -> torch.Tensor:
        return new_tensor(size, torch.uint8, shared=self.shared, pinned=self.pinned)


@dataclass(frozen=True, slots=True)
class Text(Decoder[str]):
    """Text.

    Args:
        encoding: As `bytes.decode` has it.
    """

    encoding: str = "utf-8"

    what = "text"

    def __post_init__(self) -> None:
        """Find out at once whether there is such an encoding."""
        codecs.lookup(self.encoding)

    def decode(self, reader: Readable) -> str:
        """Return the text."""
        return reader.read().decode(self.encoding)


@dataclass(frozen=True, slots=True)
class Json(Decoder[Any]):
    """A JSON document in UTF-8, UTF-16 or UTF-32 (RFC 8259)."""

    what = "JSON"

    def decode(self, reader: Readable) -> Any:
        """Return what it holds."""
        return json.loads(reader.read())


@dataclass(frozen=True, slots=True)
class Numpy(Decoder[Any]):
    """A ``.npy`` array, or the arrays of an ``.npz`` archive as a dict by name. Pickled objects are refused."""

    what = "numpy's format"

    def decode(self, reader: Readable) -> Any:
        """Return the array, or the dict of them."""
        found = np.load(io.BytesIO(reader.read()), allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return dict(found)


@dataclass(frozen=True, slots=True)
class TorchLoad(Decoder[Any]):
    """What `torch.save` wrote.

    Args:
        weights_only: Refuse everything but tensors and plain types. Without it whoever wrote the object can run code
            in your process.
        map_location: As `torch.load` has it.
    """

    weights_only: bool = True
    map_location: str | None = None

    what = "what torch.save writes"

    def decode(self, reader: Readable) -> Any:
        """Return what it holds."""
        return torch.load(io.BytesIO(reader.read()), weights_only=self.weights_only, map_location=self.map_location)


@dataclass(frozen=True, slots=True)
class Safetensors(Decoder[dict[str, torch.Tensor]]):
    """The tensors of a safetensors file, by name."""

    what = "safetensors"

    def decode(self, reader: Readable) -> dict[str, torch.Tensor]:
        """Return the tensors."""

        def load() -> Any:
            import safetensors.torch

            return safetensors.torch.load

        tensors: dict[str, torch.Tensor] = require(load, "safetensors", "decode.Safetensors")(reader.read())
        return tensors
