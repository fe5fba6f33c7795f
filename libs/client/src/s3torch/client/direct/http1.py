"""HTTP/1.1 response heads and bodies, parsed strictly (RFC 9110, RFC 9112).

What is malformed or ambiguous is an error rather than a guess: a wrong length here would be a wrong byte later.
"""

from __future__ import annotations

import re

from s3torch.client.errors import ProtocolError

__all__ = ["ChunkedDecoder", "ResponseHead", "content_range", "parse_head"]

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
# field-name ":" OWS field-value OWS: the name is a token, without a space before the colon; no line is folded. White
# space is stripped afterwards: a pattern that matched it beside the value would try every way to divide it.
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
# Most lines of a server's responses are the same in all of them: each is taken apart once.
_MOST_KNOWN = 512
_LONGEST_KNOWN = 256
_known_lines: dict[bytes, tuple[bytes, bytes]] = {}
# These differ from one response to the next.
_UNIQUE = frozenset((b"etag", b"x-amz-request-id", b"x-amz-id-2", b"content-range"))
# chunk-size [ chunk-ext ] without its CRLF: a bare CR or LF would let another recipient see another line.
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_DIGITS = b"0123456789"
# RFC 9112, section 7.1.1, asks recipients to bound chunk extensions; trailers are bounded alike.
_LONGEST_LINE = 8192
_LONGEST_TRAILER = 65536
_LONGEST_RANGE = 80  # three numbers of 64 bits, with room to spare


class ResponseHead:
    """The head of a response.

    Attributes:
        status: Status code.
        headers: Names in lower case to values.
        length: Length of the body in bytes; None where its end has to be found (``is_chunked``, or at the close).
        is_chunked: Whether the body is in chunks.
        keeps_alive: Whether the connection can serve another request after the body.
    """

    __slots__ = ("headers", "is_chunked", "keeps_alive", "length", "status")

    def __init__(
        self, status: int, headers: dict[bytes, bytes], length: int | None, is_chunked: bool, keeps_alive: bool
    ) -> None:
        self.status = status
        self.headers = headers
        self.length = length
        self.is_chunked = is_chunked
        self.keeps_alive = keeps_alive

    def text(self, name: bytes) -> str | None:
        """Return a header's value as text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} chunked={self.is_chunked}>"


def parse_head(raw: bytes, *, is_head: bool = False) -> ResponseHead:
    """Parse a response's head.

    Args:
        raw: Status line and headers, up to but without the empty line.
        is_head: Whether the request was a HEAD, whose response has no body whatever its headers say.

    Returns:
        The head.

    Raises:
        ProtocolError: It is not of the form of RFC 9112.
    """
    lines = raw.split(b"\r\n")
    start = _STATUS_LINE.fullmatch(lines[0])
    if start is None:
        raise ProtocolError(f"the status line is malformed: {lines[0][:80]!r}")
    version, code = start.groups()
    is_1_1 = version == b"1"
    status = int(code)
    headers: dict[bytes, bytes] = {}
    known = _known_lines.get
    for line in lines[1:]:
        name, value = known(line) or _parse_line(line)
        if name in headers:
            if name == b"content-length":
                if headers[name] != value:
                    raise ProtocolError("the response has two lengths")
                continue
            value = headers[name] + b", " + value  # RFC 9110, section 5.3
        headers[name] = value
    connection = headers.get(b"connection", b"").lower()
    keeps_alive = b"close" not in connection and (is_1_1 or b"keep-alive" in connection)
    length: int | None = None
    declared = headers.get(b"content-length")
    if declared is not None:
        if not declared or declared.translate(None, _DIGITS) or len(declared) > 19:
            raise ProtocolError(f"Content-Length is malformed: {declared[:80]!r}")
        length = int(declared)
    encoding = headers.get(b"transfer-encoding")
    if is_head or status < 200 or status in (204, 304):
        return ResponseHead(status, headers, 0, False, keeps_alive)
    if encoding is not None:
        # RFC 9112, section 6.3: both together may be an attempt at smuggling; S3 never sends both.
        if length is not None:
            raise ProtocolError("the response has both a length and a transfer coding")
        if encoding.lower() != b"chunked":
            raise ProtocolError(f"unknown transfer coding: {encoding[:80]!r}")
        # Section 6.1: from a server that should not know chunks, what follows them is not to be trusted.
        return ResponseHead(status, headers, None, True, keeps_alive and is_1_1)
    return ResponseHead(status, headers, length, False, keeps_alive and length is not None)


def _parse_line(line: bytes) -> tuple[bytes, bytes]:
    """Take a field line apart: its name in lower case, and its value."""
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(f"a header line is malformed: {line[:80]!r}")
    name, value = match[1].lower(), match[2].strip(b" \t")
    if name not in _UNIQUE and len(line) <= _LONGEST_KNOWN:
        if len(_known_lines) >= _MOST_KNOWN:
            _known_lines.clear()
        _known_lines[line] = (name, value)
    return name, value


def content_range(value: bytes) -> tuple[int, int, int]:
    """Parse ``Content-Range: bytes first-last/size`` (RFC 9110, section 14.4).

    Args:
        value: The header's value.

    Returns:
        First byte, byte after the last, and the whole size.

    Raises:
        ProtocolError: It is not of that form.
    """
    unit, _, rest = value.partition(b" ")
    span, _, size = rest.partition(b"/")
    first, _, last = span.partition(b"-")
    is_numeric = first.isdigit() and last.isdigit() and size.isdigit() and len(value) < _LONGEST_RANGE
    if unit.lower() != b"bytes" or not is_numeric:
        raise ProtocolError(f"Content-Range is malformed: {value[:80]!r}")
    start, end, total = int(first), int(last) + 1, int(size)
    if not start < end <= total:
        raise ProtocolError(f"Content-Range is impossible: {value[:80]!r}")
    return start, end, total


class ChunkedDecoder:
    """Takes the chunks of a body apart (RFC 9112, section 7.1), however the bytes arrive."""

    __slots__ = ("_buffer", "_left", "_state", "_trailer", "body", "is_done")

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_done = False
        self._buffer = bytearray()
        self._left = 0
        self._trailer = 0
        self._state = "size"

    def feed(self, data: bytes | memoryview) -> None:
        """Take more bytes.

        Args:
            data: What came from the connection.

        Raises:
            ProtocolError: The chunks are malformed, or bytes follow the last one.
        """
        self._buffer += data
        while self._buffer or (self._state == "data" and not self._left):
            if self.is_done:
                raise ProtocolError("bytes follow the last chunk")
            if self._state == "data":
                if not self._take_data():
                    return
            elif not self._take_line():
                return

    def _take_data(self) -> bool:
        if self._left:
            piece = self._buffer[: self._left]
            self.body += piece
            self._left -= len(piece)
            del self._buffer[: len(piece)]
            return True
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise ProtocolError("a chunk does not end where its size says")
        del self._buffer[:2]
        self._state = "size"
        return True

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise ProtocolError("a line between chunks is too long")
            return False
        if end > _LONGEST_LINE:
            raise ProtocolError("a line between chunks is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if self._state == "trailer":
            self._trailer += end
            if self._trailer > _LONGEST_TRAILER:
                raise ProtocolError("the trailer is too long")
            if line:
                if _FIELD_LINE.fullmatch(line) is None:
                    raise ProtocolError(f"the trailer is malformed: {line[:80]!r}")
            else:
                if self._buffer:
                    raise ProtocolError("bytes follow the last chunk")
                self.is_done = True
            return True
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise ProtocolError(f"a chunk's size is malformed: {line[:80]!r}")
        self._left = int(match[1], 16)
        self._state = "data" if self._left else "trailer"
        return True
