"""Where the elements lie in a tensor that `torch.save` has written, from the first bytes of what it wrote.

The layout is a zip archive (PKWARE's APPNOTE.TXT, section 4.3) of stored records: the pickle that describes the tensor
comes first, then a few notes, then the elements. Whatever is not exactly of that form is left to `torch.load`.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from s3torch.dcp._load_plan import StoredTensor

__all__ = ["HEAD_SIZE", "read_head"]

HEAD_SIZE = 4096
"""Bytes of an item that hold its head: torch's own are about 700 long."""

_HEADER = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = struct.Struct("<4s3I")
_SIGNATURE = b"PK\x03\x04"
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_NOTES = {b".format_version", b".storage_alignment", b"byteorder"}
_LONGEST_NOTE = 32


class _UnusualError(Exception):
    """The item is not laid out as expected."""


@dataclass(frozen=True, slots=True)
class _Storage:
    """What a tensor's pickle says of its storage."""

    dtype: torch.dtype | None
    """None where the bytes have no type of their own."""
    record: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What a tensor's pickle says of it."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_head(head: bytes | memoryview, start: int, length: int) -> StoredTensor | None:
    """Find a tensor's elements.

    Args:
        head: The item's first bytes, some `HEAD_SIZE`.
        start: Byte of the file at which the item begins.
        length: Bytes of the whole item.

    Returns:
        The tensor; None if `torch.load` has to find out.
    """
    try:
        tensor, payload = _parse(bytes(head))
        last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    except (_UnusualError, pickle.UnpicklingError, struct.error, ValueError, TypeError, AttributeError, EOFError):
        return None
    except (IndexError, KeyError, ImportError, UnicodeDecodeError, MemoryError):  # what a damaged pickle may raise
        return None
    itemsize = tensor.dtype.itemsize
    has_elements = 0 not in tensor.shape
    if has_elements and (last + 1) * itemsize > tensor.storage.nbytes:
        return None
    if payload + tensor.storage.nbytes > length:
        return None
    return StoredTensor(start + payload + tensor.offset * itemsize, tensor.dtype, tensor.shape, tensor.stride)


def _parse(head: bytes) -> tuple[_Tensor, int]:
    """Return the tensor and where its storage begins, from the head's first byte."""
    name, at = _header(head, 0)
    folder, slash, record = name.partition(b"/")
    if record != b"data.pkl":
        raise _UnusualError
    stream = io.BytesIO(head)
    stream.seek(at)
    unpickler = _TensorUnpickler(stream)
    tensor = unpickler.load()
    if not isinstance(tensor, _Tensor) or unpickler.storages != 1:
        raise _UnusualError
    at = _after_descriptor(head, at, stream.tell())
    byteorder = None
    while True:
        name, content = _header(head, at)
        record = name.removeprefix(folder + slash)
        if record == b"data/" + tensor.storage.record.encode():
            break
        end = head.find(_DESCRIPTOR_SIGNATURE, content, content + _LONGEST_NOTE + len(_DESCRIPTOR_SIGNATURE))
        if record not in _NOTES or end < 0:
            raise _UnusualError
        if record == b"byteorder":
            byteorder = head[content:end]
        at = _after_descriptor(head, content, end)
    if byteorder != sys.byteorder.encode():
        raise _UnusualError
    return tensor, content


def _header(head: bytes, at: int) -> tuple[bytes, int]:
    """Read a record's local header: its name and where its content begins."""
    signature, _, flags, method, *_, name_length, extra_length = _HEADER.unpack_from(head, at)
    if signature != _SIGNATURE or method != 0 or flags & 0x2041:  # compressed or encrypted in some way
        raise _UnusualError
    content = at + _HEADER.size + name_length + extra_length
    if content > len(head):
        raise _UnusualError
    return head[at + _HEADER.size : at + _HEADER.size + name_length], content


def _after_descriptor(head: bytes, start: int, end: int) -> int:
    """Check what follows a record's content."""
    signature, _, stored, size = _DESCRIPTOR.unpack_from(head, end)
    if signature != _DESCRIPTOR_SIGNATURE or not stored == size == end - start:
        raise _UnusualError
    return end + _DESCRIPTOR.size


class _TensorUnpickler(pickle.Unpickler):
    """Understands the pickle of one plain tensor and runs nothing that it names."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages = 0

    def find_class(self, module: str, name: str, /) -> Any:
        """Return our own stand-in for what the pickle of a tensor may name."""
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        raise _UnusualError

    def persistent_load(self, key: Any, /) -> _Storage:
        """Note what is said of the storage."""
        kind, dtype, record, _, count = key
        if kind != "storage" or not isinstance(record, str) or not isinstance(count, int):
            raise _UnusualError
        self.storages += 1
        if dtype is _UNTYPED:
            return _Storage(None, record, count)
        return _Storage(dtype, record, count * dtype.itemsize)


_UNTYPED = object()
_STORAGES: dict[str, Any] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": _UNTYPED,
}


def _rebuild_v2(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> _Tensor:
    _, _, *more = rest
    if any(more):  # conjugate, negative, or something newer
        raise _UnusualError
    return _tensor(storage, storage.dtype, offset, shape, stride)


def _rebuild_v3(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> _Tensor:
    _, _, dtype, *more = rest
    if any(more):
        raise _UnusualError
    return _tensor(storage, dtype, offset, shape, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _tensor(storage: Any, dtype: Any, offset: Any, shape: Any, stride: Any) -> _Tensor:
    numbers = (offset, *shape, *stride)
    is_sound = (
        isinstance(storage, _Storage)
        and isinstance(dtype, torch.dtype)
        and len(shape) == len(stride)
        and all(isinstance(number, int) and 0 <= number < 1 << 62 for number in numbers)
        and math.prod(shape) < 1 << 62
    )
    if not is_sound:
        raise _UnusualError
    return _Tensor(storage, dtype, offset, tuple(shape), tuple(stride))


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
}
