"""Where the records of a zip archive lie, from its directory; enough for the archives that torch writes.

The layout is that of PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64). torch stores records without compression,
with the bytes of each at a multiple of its alignment, and asks for them one by one; who knows the directory can fetch
them together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ZipDirectory", "ZipRecord", "find_directory", "is_torch_archive", "parse_directory"]

LOCAL_HEADER_SIZE = 30
"""Bytes of a record's local header before its name."""

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_SIZES64 = 0x0001  # id of the extra field with 64-bit sizes
_UNKNOWN32 = 0xFFFFFFFF
_PAD_FIELD = 4  # head of the extra field that torch pads a local header with


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """Where an archive's central directory lies."""

    offset: int
    """First byte."""
    size: int
    """Length in bytes."""


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """One record of an archive."""

    name: bytes
    """Name, as it is stored."""
    header_offset: int
    """First byte of the local header, which the record's bytes follow."""
    size: int
    """Bytes of the content."""
    stored_size: int
    """Bytes of the content as stored; another number than ``size`` where it is compressed."""
    is_stored: bool
    """Whether the content is stored as it is, without compression."""

    def payload_offset(self, alignment: int = 64) -> int:
        """Predict where torch has put the content of a stored record.

        The local header alone is authoritative: read it before relying on the prediction.

        Args:
            alignment: torch's alignment of storages, in bytes.
        """
        after = self.header_offset + LOCAL_HEADER_SIZE + len(self.name) + _PAD_FIELD
        if self.size >= _UNKNOWN32 or self.header_offset >= _UNKNOWN32:
            after += 4 + 16 * (self.size >= _UNKNOWN32) + 8 * (self.header_offset >= _UNKNOWN32)
        return -(-after // alignment) * alignment


def find_directory(tail: bytes | bytearray | memoryview, size: int) -> ZipDirectory | None:
    """Find the central directory from an archive's last bytes.

    Args:
        tail: The last bytes; 98 are enough for an archive without a comment.
        size: The whole archive's size in bytes.

    Returns:
        Where it lies; None if these bytes do not end a zip archive (or end one with a comment, as torch's never do).
    """
    if len(tail) < _END.size:
        return None
    signature, _, _, _, _, length, offset, comment = _END.unpack_from(tail, len(tail) - _END.size)
    if signature != b"PK\x05\x06" or comment:
        return None
    locator_at = len(tail) - _END.size - _LOCATOR64.size
    if locator_at >= 0 and bytes(tail[locator_at : locator_at + 4]) == b"PK\x06\x07":
        _, _, end64_offset, _ = _LOCATOR64.unpack_from(tail, locator_at)
        end64_at = end64_offset - (size - len(tail))
        if not 0 <= end64_at <= locator_at - _END64.size:
            return None
        end64 = _END64.unpack_from(tail, end64_at)
        if end64[0] != b"PK\x06\x06":
            return None
        length, offset = end64[8], end64[9]
    if offset + length > size - _END.size:
        return None
    return ZipDirectory(offset, length)


def parse_directory(directory: bytes | bytearray | memoryview) -> list[ZipRecord] | None:
    """Read a central directory.

    Args:
        directory: All of its bytes.

    Returns:
        The records by the order of their headers; None if the bytes are not a directory.
    """
    records: list[ZipRecord] = []
    view = memoryview(directory)
    at = 0
    while at < len(view):
        if len(view) - at < _ENTRY.size:
            return None
        entry = _ENTRY.unpack_from(view, at)
        stored_size, size, name_length, extra_length, comment_length = entry[8:13]
        name_at = at + _ENTRY.size
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        if entry[0] != b"PK\x01\x02" or at > len(view):
            return None
        wide = _widen((size, stored_size, entry[16]), view[extra_at : extra_at + extra_length])
        if wide is None:
            return None
        size, stored_size, offset = wide
        records.append(ZipRecord(bytes(view[name_at:extra_at]), offset, size, stored_size, entry[4] == 0))
    records.sort(key=lambda record: record.header_offset)
    return records


def is_torch_archive(records: Sequence[ZipRecord]) -> bool:
    """Tell whether records are laid out as torch does: all stored, in one folder, with a pickle."""
    if not records or not all(record.is_stored for record in records):
        return False
    folder, slash, _ = records[0].name.partition(b"/")
    prefix = folder + slash
    names = {record.name for record in records}
    return bool(slash) and prefix + b"data.pkl" in names and all(name.startswith(prefix) for name in names)


def _widen(values: tuple[int, int, int], extra: memoryview) -> tuple[int, int, int] | None:
    """Take size, stored size and offset from the zip64 field where 32 bits do not hold them."""
    if _UNKNOWN32 not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _SIZES64 and at + length <= len(extra):
            wide = list(struct.unpack_from(f"<{length // 8}Q", extra, at))
            widened = [(wide.pop(0) if wide else None) if value == _UNKNOWN32 else value for value in values]
            size, stored_size, offset = widened
            if size is None or stored_size is None or offset is None:
                return None
            return size, stored_size, offset
        at += length
    return None
