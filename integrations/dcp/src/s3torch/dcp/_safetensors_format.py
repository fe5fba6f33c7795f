"""The safetensors format: eight bytes of length, a header in JSON, the tensors' bytes. Pure: no I/O.

After the published description of the format (safetensors, "Format"): little-endian, elements in the order of their
indices, one tensor after the other without gaps.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from s3torch.dcp.errors import CheckpointError

__all__ = [
    "LENGTH_SIZE",
    "Header",
    "SafetensorsError",
    "TensorEntry",
    "layout_key",
    "make_header",
    "parse_header",
    "read_header_size",
    "stored_size",
]

LENGTH_SIZE = 8
"""Bytes at the start of a file that tell how long the JSON is."""

_LONGEST_JSON = 100_000_000  # what the safetensors package takes
_ALIGNMENT = 8
_MOST_DIMENSIONS = 64
_METADATA = "__metadata__"

# Name in the file: type in torch, bits of an element.
_TYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "U16": ("uint16", 16),
    "U32": ("uint32", 32),
    "U64": ("uint64", 64),
    "I8": ("int8", 8),
    "I16": ("int16", 16),
    "I32": ("int32", 32),
    "I64": ("int64", 64),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),  # in torch from 2.7
    "F4": ("float4_e2m1fn_x2", 4),  # in torch from 2.8, where an element holds two of them
    "F6_E2M3": ("", 6),  # torch has none of these two
    "F6_E3M2": ("", 6),
}
_NAMES: dict[torch.dtype, str] = {
    getattr(torch, attribute): name
    for name, (attribute, _) in _TYPES.items()
    if attribute and hasattr(torch, attribute)
}


class SafetensorsError(CheckpointError, ValueError):
    """The bytes are not a safetensors file, or not one that can be read here."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file."""

    name: str
    """Its name."""
    type_name: str
    """Type of its elements, by its name in the format, such as ``BF16``."""
    stored_shape: tuple[int, ...]
    """Its shape as the file has it; `shape` is torch's."""
    start: int
    """First byte in the file."""
    end: int
    """Byte after the last."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of its elements in torch.

        Raises:
            SafetensorsError: This torch has no such type.
        """
        found = getattr(torch, _TYPES[self.type_name][0] or "-", None)
        if not isinstance(found, torch.dtype):
            raise SafetensorsError(
                f"the tensor {self.name!r} has elements of type {self.type_name}, for which torch {torch.__version__}"
                " has none. A newer torch may have it; the other tensors can be read"
            )
        return found

    @property
    def shape(self) -> torch.Size:
        """Its shape in torch, where one element of type ``F4`` holds two of the file's."""
        if self.type_name != "F4" or not self.stored_shape:
            return torch.Size(self.stored_shape)
        *outer, last = self.stored_shape
        if last % 2:
            raise SafetensorsError(f"the tensor {self.name!r} has {last} F4 elements in a row: torch holds pairs")
        return torch.Size([*outer, last // 2])

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds."""

    tensors: Mapping[str, TensorEntry]
    """The tensors by name, in the order of their bytes."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the writer noted beside them."""
    size: int = 0
    """Bytes before the tensors: the length and the JSON."""


def stored_size(dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Return how many bytes a tensor takes.

    Args:
        dtype: Type of its elements.
        shape: Its shape.
    """
    return math.prod(shape) * dtype.itemsize


def layout_key(name: str, dtype: torch.dtype) -> tuple[int, str]:
    """Sort tensors by this, and each begins where its elements are aligned.

    Args:
        name: The tensor's name.
        dtype: Type of its elements.
    """
    return -dtype.itemsize, name


def make_header(
    entries: Sequence[tuple[str, torch.dtype, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Write what comes before the tensors' bytes.

    Args:
        entries: Name, type and shape of each tensor, in the order in which their bytes follow without gaps. Any order
            is valid; sorted by `layout_key`, all are aligned.
        metadata: Notes for the reader; None for none.

    Returns:
        The length and the JSON, a multiple of eight bytes.

    Raises:
        ValueError: The format cannot hold it: an unknown type, a name twice or reserved, too many tensors.
        TypeError: A name or a note is not a string.
    """
    _check_byte_order()
    header: dict[str, Any] = {}
    if metadata:
        for name, note in metadata.items():
            _check_str("metadata must map strings to strings", name)
            _check_str("metadata must map strings to strings", note)
        header[_METADATA] = dict(sorted(metadata.items()))
    end = 0
    for name, dtype, shape in entries:
        _check_str("the name of a tensor must be a str", name)
        if name == _METADATA:
            raise ValueError(f"a tensor cannot have the name {name!r}: the format keeps it for its metadata")
        if name in header:
            raise ValueError(f"two tensors have the name {name!r}")
        start, end = end, end + stored_size(dtype, shape)
        header[name] = {
            "dtype": _type_name(name, dtype),
            "shape": _stored_shape(name, dtype, shape),
            "data_offsets": [start, end],
        }
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise ValueError(f"a name or a note is not valid Unicode: {error}") from None
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _LONGEST_JSON:
        raise ValueError(
            f"the header of {len(entries)} tensors would have {len(text)} bytes, and safetensors takes {_LONGEST_JSON}."
            " Save them in several files"
        )
    return len(text).to_bytes(LENGTH_SIZE, "little") + text


def read_header_size(head: bytes | memoryview, file_size: int) -> int:
    """Read how many bytes come before the tensors' own.

    Args:
        head: The first bytes of the file, at least eight if it has so many.
        file_size: Bytes in the file.

    Returns:
        Bytes of the length and the JSON.

    Raises:
        SafetensorsError: It is not a safetensors file, or it is cut off.
    """
    _check_byte_order()
    if file_size < LENGTH_SIZE:
        raise SafetensorsError(f"not a safetensors file: it has {file_size} bytes and no header")
    length = int.from_bytes(head[:LENGTH_SIZE], "little")
    begins_well = len(head) == LENGTH_SIZE or bytes(head[LENGTH_SIZE : LENGTH_SIZE + 1]) in (b"{", b"")
    if not 2 <= length <= _LONGEST_JSON or not begins_well:
        raise SafetensorsError("not a safetensors file: it does not begin with the length of a header and the header")
    if LENGTH_SIZE + length > file_size:
        raise SafetensorsError(f"truncated: the header alone has {LENGTH_SIZE + length} bytes, the file {file_size}")
    return LENGTH_SIZE + length


def parse_header(head: bytes | memoryview, file_size: int) -> Header:
    """Read what comes before the tensors' bytes, as strictly as the format is defined.

    Args:
        head: The first bytes of the file, at least `read_header_size`.
        file_size: Bytes in the file.

    Returns:
        The header.

    Raises:
        SafetensorsError: It is not a safetensors file, or it is cut off or corrupt.
    """
    size = read_header_size(head, file_size)
    if len(head) < size:
        raise ValueError(f"the header has {size} bytes, got {len(head)}")
    try:
        found = json.loads(bytes(head[LENGTH_SIZE:size]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"not a safetensors file: its header cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise SafetensorsError("not a safetensors file: its header is no JSON object")
    metadata = found.pop(_METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(note, str) for note in metadata.values()):
        raise SafetensorsError("corrupt header: its metadata does not map strings to strings")
    tensors = sorted(
        (_parse_tensor(name, entry, size) for name, entry in found.items()), key=lambda item: (item.start, item.end)
    )
    _check_cover(tensors, size, file_size)
    return Header({tensor.name: tensor for tensor in tensors}, metadata, size)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SafetensorsError(f"the name {name!r} stands there twice")
        found[name] = value
    return found


def _parse_tensor(name: str, entry: Any, base: int) -> TensorEntry:
    if not isinstance(entry, dict):
        raise SafetensorsError(f"corrupt header: {name!r} is described by no JSON object")
    kind: Any
    shape: Any
    offsets: Any
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise SafetensorsError(f"the tensor {name!r} has elements of the unknown type {kind!r}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise SafetensorsError(f"corrupt header: {name!r} has the shape {shape!r} and the offsets {offsets!r}")
    bits = math.prod(shape) * _TYPES[kind][1]
    start, end = offsets
    if bits % 8 or bits // 8 != end - start:
        raise SafetensorsError(
            f"corrupt header: {name!r}, {kind} of shape {shape!r}, takes {bits / 8:g} bytes, its offsets {end - start}"
        )
    return TensorEntry(name, kind, tuple(shape), base + start, base + end)


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= _MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
    )


def _check_cover(tensors: Iterable[TensorEntry], start: int, file_size: int) -> None:
    """Check that the tensors follow each other without gaps and that nothing else follows them."""
    position, before = start, "the header"
    for tensor in tensors:
        if tensor.start != position:
            what = "overlaps" if tensor.start < position else "leaves a gap after"
            raise SafetensorsError(f"corrupt header: the tensor {tensor.name!r} {what} {before}")
        position, before = tensor.end, repr(tensor.name)
    if position > file_size:
        raise SafetensorsError(f"truncated: the tensors end at {position} bytes, the file has {file_size}")
    if position < file_size:
        raise SafetensorsError(f"corrupt: the tensors end at {position} bytes, the file has {file_size}")


def _type_name(name: str, dtype: torch.dtype) -> str:
    found = _NAMES.get(dtype)
    if found is None:
        raise ValueError(f"the safetensors format has no {dtype}, the type of {name!r}. Convert the tensor first")
    return found


def _stored_shape(name: str, dtype: torch.dtype, shape: Sequence[int]) -> list[int]:
    sizes = [int(size) for size in shape]
    if _TYPES[_NAMES[dtype]][1] < 8:
        if not sizes:
            raise ValueError(f"{name!r} is a single element of {dtype}, a pair: the format has no shape for it")
        sizes[-1] *= 2
    return sizes


def _check_str(rule: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{rule}, got {value!r}")


def _check_byte_order() -> None:
    if sys.byteorder != "little":
        raise NotImplementedError("safetensors files are little-endian; on this machine numbers are not")
