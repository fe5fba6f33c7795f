"""Blocks of a tar archive: headers, extended headers and what they say. Pure; knows no stream.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; the GNU tar manual, "Basic Tar
Format", for long names, sparse files and numbers in base 256.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import adler32

__all__ = ["BLOCK", "Header", "PaxRecords", "TarFormatError", "padded", "parse_header", "parse_pax", "text_of"]

BLOCK = 512
"""Bytes of a header; what a member holds is padded to a multiple of it."""

_LARGEST_SIZE = 2**63
_MOST_DIGITS = 20  # of a number that is not too large
_BLANKS = 8 * ord(" ")  # the checksum counts its own field as blanks
_FOLDER = ord("5")
_REGULAR = frozenset(b"0\x007")
# Links, devices, folders and pipes: no data follow, whatever the header's size says.
_WITHOUT_DATA = frozenset(b"123456")
_UNREADABLE = {
    ord("S"): "a sparse file, which is not supported",
    ord("M"): "the continuation of another volume, which is not supported",
}


class TarFormatError(ValueError):
    """The bytes are no tar archive, or one that is not read.

    Args:
        offset: Byte of the archive at which that was found.
        message: What is wrong, without the place.
    """

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(f"{message} at byte {offset}")
        self.offset = offset
        self.message = message


@dataclass(frozen=True, slots=True)
class Header:
    """What one header block says."""

    name: str
    """The member's path."""
    size: int
    """Bytes of data that follow, without their padding."""
    kind: int
    """The type flag, as a byte."""

    @property
    def is_regular(self) -> bool:
        """Whether the member is a plain file."""
        return self.kind in _REGULAR


@dataclass(frozen=True, slots=True)
class PaxRecords:
    """What an extended header says of the member that follows; None leaves it to the member's own header."""

    path: str | None = None
    """The member's path."""
    size: int | None = None
    """Bytes of data that follow."""

    def apply(self, header: Header) -> Header:
        """Return the header with what is said here in place of its own."""
        has_size = self.size is not None and header.kind not in _WITHOUT_DATA
        return Header(
            header.name if self.path is None else self.path, self.size or 0 if has_size else header.size, header.kind
        )


def padded(size: int) -> int:
    """Return how many bytes a member's data take up in the archive."""
    return -(-size // BLOCK) * BLOCK


def parse_header(block: bytes, offset: int) -> Header:
    """Read one header block.

    Args:
        block: Its 512 bytes.
        offset: Where it lies in the archive, for errors.

    Returns:
        What it says.

    Raises:
        TarFormatError: The checksum or a number is wrong, or the member is of a kind that cannot be read.
    """
    stated = _parse_number(block[148:156], offset, "checksum")
    if stated not in _checksums(block):
        raise TarFormatError(offset, "no tar header, or a damaged one: its checksum is wrong")
    kind = block[156]
    name = text_of(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{text_of(block[345:500])}/{name}"
    if kind in _UNREADABLE:
        raise TarFormatError(offset, f"{name!r} is {_UNREADABLE[kind]}:")
    size = _parse_number(block[124:136], offset, "size")
    if not kind and name.endswith("/"):
        kind = _FOLDER  # how programs older than POSIX mark one
    return Header(name, 0 if kind in _WITHOUT_DATA else size, kind)


def parse_pax(data: bytes, offset: int) -> PaxRecords:
    """Read an extended header's records.

    Args:
        data: All of them: ``length keyword=value`` and a line feed each.
        offset: Where their header lies in the archive, for errors.

    Returns:
        What they say; whatever has no meaning for reading is left out.

    Raises:
        TarFormatError: A record is malformed, or a sparse file follows.
    """
    path: str | None = None
    size: int | None = None
    at = 0
    while at < len(data):
        digits, blank, _ = data[at : at + _MOST_DIGITS + 1].partition(b" ")
        end = at + int(digits) if blank and digits.isdigit() else 0
        keyword, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not at < end <= len(data) or data[end - 1] != ord("\n") or not equals:
            raise TarFormatError(offset, "an extended header has a malformed record,")
        if keyword.startswith(b"GNU.sparse"):
            raise TarFormatError(offset, "a sparse file follows, which is not supported,")
        if keyword == b"path":
            path = value.decode("utf-8", "surrogateescape")
        elif keyword == b"size":
            if not value.isdigit() or len(value) > _MOST_DIGITS or int(value) >= _LARGEST_SIZE:
                raise TarFormatError(offset, "an extended header has a size out of range")
            size = int(value)
        at = end
    return PaxRecords(path, size)


def text_of(field: bytes) -> str:
    """Return the text of a field, which ends with its first zero byte."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _checksums(block: bytes) -> tuple[int, ...]:
    """Return the sums that a header may state: of its bytes, and, as some old programs have it, of signed ones."""
    # The sum of 256 bytes is below Adler's modulus (RFC 1950): the lower half of the checksum, less one, is that sum.
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    total += _BLANKS - sum(block[148:156])
    if block.isascii():
        return (total,)
    return total, total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _parse_number(field: bytes, offset: int, what: str) -> int:
    """Read octal digits, or base 256, which the first byte's highest bit marks."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << (8 * len(field) - 8))
        if value < _LARGEST_SIZE:
            return value
    else:
        digits = field.strip(b" \0")
        if not digits.strip(b"01234567"):
            return int(digits or b"0", 8)
    raise TarFormatError(offset, f"no tar header, or a damaged one: its {what} is no number in range")
