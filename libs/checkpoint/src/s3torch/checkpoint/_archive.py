"""A torch archive in S3: where its records lie, checked rather than assumed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.client import GetObjectStream
from s3torch.readers.zip_index import ZipRecord, find_directory, is_torch_archive, parse_directory

__all__ = ["Archive", "Payload", "read_archive"]

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_SIGNATURE = b"PK\x03\x04"
_HAS_DESCRIPTOR = 0x0008  # general purpose bit 3: sizes follow the content
_UNKNOWN32 = 0xFFFFFFFF
_DEFAULT_ALIGNMENT = 64
_LONGEST_TAIL = 64 * 1024
_LONGEST_PICKLE = 256 * 1024 * 1024
_LONGEST_NOTE = 64  # bytes of records such as byteorder
_TORCHSCRIPT = b"constants.pkl"


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes of one storage in an archive."""

    header_offset: int
    """First byte of the record's local header."""
    offset: int
    """First byte of the content."""
    size: int
    """Bytes of the content."""
    header: bytes
    """The first 30 bytes of a local header that leads to ``offset``."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive holds."""

    pickle: bytes
    """Content of ``data.pkl``."""
    byteorder: str
    """``little`` or ``big``; empty where it is not recorded."""
    payloads: tuple[Payload, ...]
    """The storages, by their offset."""


def read_archive(stream: GetObjectStream) -> Archive | None:
    """Read what `torch.load` needs besides the storages.

    Args:
        stream: The object; its position moves.

    Returns:
        The archive; None if the object is not one that `torch.save` has laid out, or if anything about it is unusual.
    """
    stream.seek(0)
    if stream.read(len(_SIGNATURE)) != _SIGNATURE:
        return None
    size = stream.size
    tail_start = max(0, size - _LONGEST_TAIL)
    tail = _read(stream, tail_start, size)
    directory = find_directory(tail, size)
    if directory is None:
        return None
    records = parse_directory(_read(stream, directory.offset, directory.offset + directory.size))
    if records is None or not is_torch_archive(records):
        return None
    folder = records[0].name.partition(b"/")[0] + b"/"
    by_name = {record.name.removeprefix(folder): record for record in records}
    if len(by_name) != len(records) or _TORCHSCRIPT in by_name:
        return None
    pickle = _content(stream, by_name.get(b"data.pkl"), _LONGEST_PICKLE)
    alignment = _alignment(_content(stream, by_name.get(b".storage_alignment"), _LONGEST_NOTE))
    if pickle is None or alignment is None:
        return None
    payloads = _locate(records, folder + b"data/", alignment, directory.offset)
    if payloads is None:
        return None
    byteorder = _content(stream, by_name.get(b"byteorder"), _LONGEST_NOTE) or b""
    return Archive(pickle, byteorder.decode("ascii", "replace"), payloads)


def _read(stream: GetObjectStream, start: int, end: int) -> bytes:
    stream.seek(start)
    return stream.read(end - start)


def _content(stream: GetObjectStream, record: ZipRecord | None, most: int) -> bytes | None:
    """Read a small record the way a zip reader does: by its local header."""
    if record is None or record.size > most:
        return None
    stream.seek(record.header_offset)
    head = stream.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or not head.startswith(_SIGNATURE):
        return None
    name_length, extra_length = _LOCAL_HEADER.unpack(head)[-2:]
    start = record.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    content = _read(stream, start, start + record.size)
    return content if len(content) == record.size else None


def _alignment(note: bytes | None) -> int | None:
    if note is None:
        return _DEFAULT_ALIGNMENT
    return int(note) if note.isdigit() and 0 < int(note) <= 1 << 20 else None


def _locate(records: Sequence[ZipRecord], prefix: bytes, alignment: int, end: int) -> tuple[Payload, ...] | None:
    """Compute where the storages lie without reading their local headers, one request each.

    A payload begins where torch aligns it to, and it must end, with the descriptor that follows it, exactly where the
    next record begins. Where both do not agree, the archive was written by something else.
    """
    payloads = []
    for number, record in enumerate(records):
        if not record.name.startswith(prefix):
            continue
        following = records[number + 1].header_offset if number + 1 < len(records) else end
        offset = record.payload_offset(alignment)
        is_wide = record.size >= _UNKNOWN32 or record.header_offset >= _UNKNOWN32
        descriptor = 0 if not record.size else 24 if is_wide else 16
        if offset + record.size + descriptor != following:
            return None
        header = _make_header(record, offset)
        if header is None:
            return None
        payloads.append(Payload(record.header_offset, offset, record.size, header))
    return tuple(payloads)


def _make_header(record: ZipRecord, offset: int) -> bytes | None:
    """Write the fixed part of a local header that says where the content begins."""
    extra_length = offset - record.header_offset - _LOCAL_HEADER.size - len(record.name)
    if not 0 <= extra_length <= 0xFFFF:
        return None
    size = min(record.size, _UNKNOWN32)
    return _LOCAL_HEADER.pack(_SIGNATURE, 45, _HAS_DESCRIPTOR, 0, 0, 0, 0, size, size, len(record.name), extra_length)
