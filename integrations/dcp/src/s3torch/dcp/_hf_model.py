"""A safetensors model as a checkpoint: whole tensors, or tensors in parts that ranks have saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from s3torch.client import S3Client
from s3torch.client.scatter import Piece
from s3torch.dcp._load_plan import StoredTensor, select
from s3torch.dcp._placing import place
from s3torch.dcp._safetensors_files import ModelFile, TensorPlace, fetch
from s3torch.dcp._safetensors_format import SafetensorsError

__all__ = ["Fill", "SavedPart", "SavedTensor", "describe_files", "fill_tensors"]

_SHARDING = "DCP_SHARDING_INFO"
# Bytes of a range that does not go straight into a tensor's memory.
_LONGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SavedPart:
    """A box of a tensor, in one file."""

    offsets: tuple[int, ...]
    """Where in the tensor it begins, along each dimension."""
    place: TensorPlace
    """Where it is stored."""

    @property
    def shape(self) -> torch.Size:
        """How far it goes."""
        return self.place.entry.shape


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A tensor, of which the parts together have each element once."""

    name: str
    """Its name."""
    dtype: torch.dtype
    """Type of its elements."""
    shape: torch.Size
    """Its shape."""
    parts: tuple[SavedPart, ...]
    """Where it is stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """Elements wanted."""

    part: SavedPart
    """Of what."""
    offsets: tuple[int, ...]
    """First index in the part, for each dimension."""
    target: torch.Tensor
    """Takes them: its shape says how many."""


def describe_files(files: Iterable[ModelFile]) -> dict[str, SavedTensor]:
    """Put the parts of tensors together.

    Args:
        files: The model's files.

    Returns:
        The tensors by name.

    Raises:
        SafetensorsError: Parts are missing, or do not fit together.
    """
    parts: dict[str, list[SavedPart]] = {}
    for file in files:
        offsets = _offsets(file)
        for name, entry in file.header.tensors.items():
            start = offsets.get(name, (0,) * len(entry.shape)) if offsets else (0,) * len(entry.shape)
            if len(start) != len(entry.shape):
                raise SafetensorsError(
                    f"{file.uri}: {name!r} of shape {tuple(entry.shape)} is said to begin at {start}"
                )
            parts.setdefault(name, []).append(SavedPart(start, TensorPlace(file, entry)))
    return {name: _join(name, found) for name, found in parts.items()}


def fill_tensors(client: S3Client, fills: Iterable[Fill], *, memory: int | None = None) -> None:
    """Fetch elements of many tensors, all at once.

    Args:
        client: Where to read.
        fills: What is wanted, and where it goes.
        memory: Bytes that may be held for what does not go straight into a tensor's memory.

    Raises:
        S3Exception: A request failed; nothing touches the tensors any more.
        ValueError: A part ends before what is wanted of it does.
    """
    wanted: list[tuple[ModelFile, list[Piece]]] = []
    for fill in fills:
        entry = fill.part.place.entry
        stride = torch.empty(entry.shape, device="meta").stride()
        stored = StoredTensor(entry.start, entry.dtype, tuple(entry.shape), stride)
        box = select(stored, fill.offsets, fill.target.shape)
        wanted.append((fill.part.place.file, list(place(box, entry.dtype, fill.target, _LONGEST))))
    fetch(client, wanted, memory=memory)


def _offsets(file: ModelFile) -> dict[str, tuple[int, ...]]:
    """Read where in its tensor each part of a file begins, as torch notes it."""
    note = file.header.metadata.get(_SHARDING)
    if not note:
        return {}
    try:
        found: Any = json.loads(note)
        offsets: Mapping[str, Any] = {name: value["saved_offsets"] for name, value in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SafetensorsError(f"{file.uri}: its {_SHARDING} cannot be read: {error!r}") from None
    for name, value in offsets.items():
        if not isinstance(value, list) or not all(type(number) is int and number >= 0 for number in value):
            raise SafetensorsError(f"{file.uri}: its {_SHARDING} has {value!r} for {name!r}")
    return {name: tuple(value) for name, value in offsets.items()}


def _join(name: str, parts: list[SavedPart]) -> SavedTensor:
    first = parts[0].place
    dtype = first.entry.dtype
    for part in parts:
        if len(part.shape) != len(parts[0].shape) or part.place.entry.dtype != dtype:
            raise SafetensorsError(
                f"the tensor {name!r} is of another type or rank in {part.place.file.uri} than in {first.file.uri}"
            )
    shape = torch.Size(
        max(part.offsets[dimension] + part.shape[dimension] for part in parts)
        for dimension in range(len(parts[0].shape))
    )
    if sum(math.prod(part.shape) for part in parts) != math.prod(shape) or _overlap(parts):
        where = ", ".join(sorted({part.place.file.uri for part in parts}))
        raise SafetensorsError(
            f"the parts of the tensor {name!r} do not make up a tensor of {tuple(shape)}: some are missing, or of"
            f" another save. They are in {where}"
        )
    return SavedTensor(name, dtype, shape, tuple(parts))


def _overlap(parts: list[SavedPart]) -> bool:
    """Whether two parts share elements."""
    # Sorted along the first dimension, only those that reach so far can meet.
    parts = sorted((part for part in parts if math.prod(part.shape)), key=lambda part: part.offsets)
    for number, part in enumerate(parts):
        for other in parts[number + 1 :]:
            if part.offsets and other.offsets[0] >= part.offsets[0] + part.shape[0]:
                break
            if all(
                max(a, b) < min(a + m, b + n)
                for a, m, b, n in zip(part.offsets, part.shape, other.offsets, other.shape, strict=True)
            ):
                return True
    return False
