"""Members of an archive, and the samples that they make up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from s3torch.datasets.tar._header import (
    BLOCK,
    Header,
    PaxRecords,
    TarFormatError,
    padded,
    parse_header,
    parse_pax,
    text_of,
)
from s3torch.datasets.tar._parts import Parts

__all__ = ["RawSample", "read_samples", "split_name"]

_LARGEST_NAME = 1024 * 1024  # bytes of an extended header: a path and some attributes
_ZEROS = bytes(BLOCK)
_PAX, _PAX_OF_SOLARIS, _PAX_OF_ALL, _LONG_NAME, _LONG_LINK = b"xXgLK"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
# Members that describe the archive and are no part of a sample, by WebDataset's convention.
_ABOUT_ARCHIVE = re.compile("__[^/]*__(/|$)")


@dataclass(slots=True)
class RawSample:
    """Members that follow each other and have one key."""

    key: str
    """What their paths have in common: folders, and the name up to its first dot."""
    offset: int
    """Byte of the archive at which the first member's headers begin."""
    end: int = 0
    """Byte of the archive at which the next sample begins, or the archive ends."""
    fields: dict[str, memoryview | bytes] = field(default_factory=dict)
    """What follows the first dot, in lower case, to the member's bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.fields.values()))


def split_name(path: str) -> tuple[str, str] | None:
    """Split a member's path into a sample's key and a field's name, by WebDataset's convention.

    Args:
        path: Such as ``train/0001.seg.png``.

    Returns:
        ``train/0001`` and ``seg.png``; None for what is no part of a sample: a name without a dot, a hidden file, a
        description of the archive (``__name__``).
    """
    folder = path.rfind("/") + 1
    dot = path.find(".", folder)
    if dot <= folder or (path.startswith("__") and _ABOUT_ARCHIVE.match(path)):
        return None
    return path[:dot], path[dot + 1 :].lower()


def read_samples(parts: Parts) -> Iterator[RawSample]:
    """Group the members of an archive into samples, in order.

    Args:
        parts: The archive, from its start or from the offset of a sample on.

    Yields:
        Each sample, as soon as the header after its last member has arrived.

    Raises:
        TarFormatError: It is no archive, or a damaged one, or one file is twice in a sample.
    """
    sample: RawSample | None = None
    while True:
        offset = parts.offset
        header = _next_member(parts)
        if header is None:
            break
        name = split_name(header.name) if header.is_regular else None
        if name is None:
            parts.skip(padded(header.size), repr(header.name))
            continue
        key, extension = name
        if sample is None or key != sample.key:
            if sample is not None:
                sample.end = offset
                yield sample
            sample = RawSample(key, offset)
        if extension in sample.fields:
            raise TarFormatError(offset, f"{header.name!r} is the second file with that name in sample {key!r}")
        sample.fields[extension] = parts.take(header.size, repr(header.name))
        parts.skip(-header.size % BLOCK, repr(header.name))
    if sample is not None:
        sample.end = offset
        yield sample


def _next_member(parts: Parts) -> Header | None:
    """Read the next member's header with all that extends it; None at the archive's end."""
    name: str | None = None
    records: PaxRecords | None = None
    while True:
        offset = parts.offset
        if parts.at_end():
            raise TarFormatError(offset, "the archive is cut off: the two blocks of zeros that end one are missing")
        block = bytes(parts.take(BLOCK, "a header"))
        if not block[0] and block == _ZEROS:
            if name is not None or records is not None:
                raise TarFormatError(offset, "an extended header is followed by no member,")
            _check_end(parts)
            return None
        if not offset:
            _check_plain(block)
        header = parse_header(block, offset)
        kind = header.kind
        if kind not in (_PAX, _PAX_OF_SOLARIS, _PAX_OF_ALL, _LONG_NAME, _LONG_LINK):
            if name is not None:
                header = Header(name, header.size, kind)
            return header if records is None else records.apply(header)
        if header.size > _LARGEST_NAME:
            raise TarFormatError(offset, f"an extended header claims {header.size} bytes,")
        data = bytes(parts.take(header.size, "an extended header"))
        parts.skip(-header.size % BLOCK, "an extended header")
        if kind == _LONG_NAME:
            name = text_of(data)
        elif kind in (_PAX, _PAX_OF_SOLARIS):
            records = parse_pax(data, offset)
        elif kind == _PAX_OF_ALL and parse_pax(data, offset) != PaxRecords():
            raise TarFormatError(offset, "a header gives all members one path or size, which is not supported,")


def _check_end(parts: Parts) -> None:
    """See that nothing but zeros follows: a block that was lost must not pass for the end."""
    while not parts.at_end():
        offset = parts.offset
        if bytes(parts.take_available()).strip(b"\0"):
            raise TarFormatError(offset, "data follow the blocks of zeros that end an archive,")


def _check_plain(block: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if block.startswith(magic):
            raise TarFormatError(0, f"the archive is compressed ({name}), which is not supported: the data begin")
