"""Just enough HTTP/1.1 to know where a request or a response ends (RFC 9112)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["Head", "Stream", "body_pieces", "read_head"]

RECEIVE = 256 * 1024
_LONGEST_HEAD = 256 * 1024
_ENDED = "the connection ended within a body"
_LISTS = re.compile(r"[?&](list-type|uploads)\b")


class Stream:
    """A socket that is read in pieces, with what was read too much."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""

    def read(self, most: int = RECEIVE) -> bytes:
        """Return some bytes, none at the end."""
        if self.rest:
            data, self.rest = self.rest[:most], self.rest[most:]
            return data
        return self.sock.recv(min(most, RECEIVE))

    def read_until(self, mark: bytes, longest: int = _LONGEST_HEAD) -> bytes | None:
        """Return what comes before a mark, and take the mark away; None at a clean end."""
        have = b""
        while mark not in have:
            data = self.read()
            if not data:
                if have:
                    raise ConnectionResetError("the connection ended within a message")
                return None
            have += data
            if len(have) > longest:
                raise ValueError("a message without an end")
        found, _, rest = have.partition(mark)
        self.rest = rest + self.rest
        return found


@dataclass(frozen=True, slots=True)
class Head:
    """First line and headers of a message."""

    line: str
    """The first line."""
    headers: tuple[tuple[str, str], ...]
    """Names as sent, and values."""

    @property
    def method(self) -> str:
        """A request's method."""
        return self.line.split(" ", 1)[0]

    @property
    def target(self) -> str:
        """What a request asks for."""
        return self.line.split(" ")[1]

    @property
    def is_listing(self) -> bool:
        """Whether a request asks for a page of objects or uploads, not for an object."""
        return self.method == "GET" and _LISTS.search(self.target) is not None

    @property
    def status(self) -> int:
        """A response's status."""
        return int(self.line.split(" ")[1])

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the head tells."""
        value = self.get("content-length")
        return None if value is None else int(value)

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in (self.get("transfer-encoding") or "").lower()

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this message."""
        return (self.get("connection") or "").lower() == "close"

    def get(self, name: str) -> str | None:
        """Return a header's value; ``name`` is in lower case."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def without(self, *names: str) -> Head:
        """Return the head without some headers, named in lower case."""
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in names))

    def having(self, *pairs: tuple[str, str]) -> Head:
        """Return the head with some headers in the place of those of the same names."""
        others = self.without(*(name.lower() for name, _ in pairs))
        return replace(others, headers=(*others.headers, *pairs))

    def encode(self) -> bytes:
        """Return the bytes that are sent."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_head(stream: Stream) -> Head | None:
    """Read a head; None at the connection's clean end."""
    found = stream.read_until(b"\r\n\r\n")
    if found is None:
        return None
    first, *lines = found.decode("latin-1").lstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(first, tuple((name, value.strip()) for name, _, value in pairs))


def body_pieces(stream: Stream, head: Head, *, until_close: bool = False) -> Iterator[bytes]:
    """Read a body, piece by piece, as it is sent: chunks keep their framing.

    Args:
        stream: Where it comes from.
        head: Its head.
        until_close: Where the head tells no length, the connection's end is the body's: true of responses.
    """
    if head.is_chunked:
        yield from _chunks(stream)
    elif head.length is not None:
        yield from _exactly(stream, head.length)
    elif until_close:
        while data := stream.read():
            yield data


def _chunks(stream: Stream) -> Iterator[bytes]:
    size = -1
    while size:
        line = _line(stream)
        yield line + b"\r\n"
        size = int(line.partition(b";")[0], 16)
        if size:
            yield from _exactly(stream, size + 2)  # with the line's end
    while line:  # trailers, up to an empty line
        line = _line(stream)
        yield line + b"\r\n"


def _line(stream: Stream) -> bytes:
    line = stream.read_until(b"\r\n")
    if line is None:
        raise ConnectionResetError(_ENDED)
    return line


def _exactly(stream: Stream, left: int) -> Iterator[bytes]:
    while left:
        data = stream.read(left)
        if not data:
            raise ConnectionResetError(_ENDED)
        left -= len(data)
        yield data
