"""One file of the cache: a stretch of one version of an object, and behind it what proves that it is just that.

    bytes of the stretch | CRC-32 of each block | who it is | tail

The tail says how long the parts before it are and has a CRC-32 of itself and of all between it and the bytes. A file
that was cut off, overwritten or damaged does not fit together, and is not taken for an entry.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from s3torch.client.cache._files import read_into
from s3torch.client.checksum import crc32

__all__ = ["BLOCK", "DamagedError", "Entry", "Version", "make_trailer", "read_entry", "read_stretch"]

BLOCK = 256 * 1024
"""Bytes that share a checksum: a piece of an entry is verified without reading all of it."""

_MAGIC = b"s3tcach1"
_TAIL = struct.Struct("<8sQQQII")  # magic, first byte, length, the object's size, length of the name, CRC-32
_NAME_DIGEST = 16  # bytes; names are compared in full besides


class DamagedError(Exception):
    """A file is not the entry it should be."""


@dataclass(frozen=True)
class Version:
    """One version of one object of one store."""

    store: str
    """The store's endpoint."""
    bucket: str
    key: str
    etag: str
    """Entity tag, with its quotes; empty for what is remembered of the object itself, whatever its version."""

    @cached_property
    def name(self) -> bytes:
        """What the entries carry to be told apart."""
        return f"{self.store}\n{self.bucket}\n{self.etag}\n{self.key}".encode("utf-8", "surrogatepass")

    @cached_property
    def digest(self) -> str:
        """What the names of its files begin with, in hexadecimal."""
        return hashlib.blake2b(self.name, digest_size=_NAME_DIGEST).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """What the trailer of a file says."""

    start: int
    """First byte of the stretch in the object."""
    length: int
    """Bytes in the stretch."""
    size: int
    """The object's whole size."""
    checksums: Sequence[int]
    """CRC-32 of each block."""
    file_size: int
    """Bytes of the whole file."""


def make_trailer(version: Version, start: int, size: int, data: memoryview) -> bytes:
    """Return what goes behind the bytes of a stretch.

    Args:
        version: Whose bytes they are.
        start: First byte in the object.
        size: The object's whole size.
        data: The bytes, format ``B``, contiguous.
    """
    length, name = data.nbytes, version.name
    checksums = [crc32(data[at : at + BLOCK]) for at in range(0, length, BLOCK)]
    head = struct.pack(f"<{len(checksums)}I", *checksums) + name
    tail = _TAIL.pack(_MAGIC, start, length, size, len(name), 0)[:-4]
    return head + tail + struct.pack("<I", crc32(memoryview(head + tail)))


def read_entry(file: io.FileIO, version: Version, file_size: int) -> Entry:
    """Read and check what lies behind the bytes.

    Args:
        file: The open file.
        version: Whose entry it must be.
        file_size: The file's size.

    Returns:
        What the trailer says; the bytes themselves have not been looked at.

    Raises:
        DamagedError: It is no such entry.
        OSError: It cannot be read.
    """
    name = version.name
    length = _data_length(file_size, len(name))
    trailer = bytearray(file_size - length)
    _read(file, memoryview(trailer), length)
    blocks = -(-length // BLOCK)
    magic, start, said_length, size, name_length, checksum = _TAIL.unpack_from(trailer, len(trailer) - _TAIL.size)
    if (
        (magic, said_length, name_length) != (_MAGIC, length, len(name))
        or checksum != crc32(memoryview(trailer)[:-4])
        or trailer[4 * blocks : 4 * blocks + len(name)] != name
        or start + length > size
    ):
        raise DamagedError("the file's end is not that of such an entry")
    return Entry(start, length, size, struct.unpack_from(f"<{blocks}I", trailer), file_size)


def read_stretch(file: io.FileIO, entry: Entry, first: int, view: memoryview) -> None:
    """Fill memory from an entry; whole blocks are read straight into it, and each is verified.

    Args:
        file: The open file.
        entry: What its trailer says.
        first: First byte, counted from the entry's own first.
        view: The memory, format ``B``, contiguous; the entry reaches to its end at least.

    Raises:
        DamagedError: The bytes are not those that were written; the memory may hold anything.
        OSError: They cannot be read.
    """
    last, at = first + view.nbytes, first
    while at < last:
        block = at // BLOCK
        begin, end = block * BLOCK, min((block + 1) * BLOCK, entry.length)
        if at == begin and last >= end:
            # All whole blocks with one read.
            until = last if last == entry.length else last // BLOCK * BLOCK
            _read(file, view[at - first : until - first], at)
            for number in range(block, -(-until // BLOCK)):
                begin, end = number * BLOCK, min((number + 1) * BLOCK, entry.length)
                _check(entry, number, view[begin - first : end - first])
            at = until
        else:
            scratch = memoryview(bytearray(end - begin))
            _read(file, scratch, begin)
            _check(entry, block, scratch)
            until = min(last, end)
            view[at - first : until - first] = scratch[at - begin : until - begin]
            at = until


def _data_length(file_size: int, name_length: int) -> int:
    """Find how many bytes of a file are data: each block of them adds a checksum."""
    left = file_size - name_length - _TAIL.size
    length = left - 4 * -(-left // (BLOCK + 4))
    if left < 0 or length + 4 * -(-length // BLOCK) != left:
        raise DamagedError("no entry has this size")
    return length


def _read(file: io.FileIO, view: memoryview, at: int) -> None:
    if read_into(file, view, at) < view.nbytes:
        raise DamagedError("the file is shorter than it was")


def _check(entry: Entry, block: int, data: memoryview) -> None:
    if crc32(data) != entry.checksums[block]:
        raise DamagedError(f"block {block} does not have its checksum")
