"""Response heads, ranges and chunks: strict by RFC 9112, and read as `http.client` reads them."""

from __future__ import annotations

import http.client
import io
import random
import socket
import time
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3torch.client import ProtocolError
from s3torch.client.direct.http1 import ChunkedDecoder, content_range, parse_head

OK = b"HTTP/1.1 200 OK"


class _Recorded:
    """What `http.client` needs of a socket: a file of bytes."""

    def __init__(self, raw: bytes) -> None:
        self.file = io.BytesIO(raw)

    def makefile(self, mode: str) -> io.BytesIO:
        return self.file


def read_with_http_client(raw: bytes, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes, bytes]:
    """Read a response with the standard library: it, its body, and the bytes it left unread."""
    recorded = _Recorded(raw)
    response = http.client.HTTPResponse(cast(socket.socket, recorded), method=method)
    response.begin()
    rest = recorded.file
    body = response.read()
    left = b"" if rest.closed else rest.read()
    return response, body, left


def same_head(ours: Any, theirs: http.client.HTTPResponse) -> None:
    assert ours.status == theirs.status
    expected: dict[bytes, list[bytes]] = {}
    for name, value in theirs.getheaders():
        # The standard library keeps white space behind values; it is no part of them (RFC 9112, section 5).
        expected.setdefault(name.lower().encode(), []).append(value.strip(" \t").encode("latin-1"))
    assert set(ours.headers) == set(expected)
    for key, values in expected.items():
        assert ours.headers[key] == (values[0] if key == b"content-length" else b", ".join(values))


# ---------------------------------------------------------------------------------------------------------------- heads


def test_reads_a_head() -> None:
    head = parse_head(OK + b'\r\nContent-Length: 12\r\nETag: "a b"\r\nX-Empty:\r\nX-Padded: \t v w \t')
    assert (head.status, head.length, head.is_chunked, head.keeps_alive) == (200, 12, False, True)
    assert head.headers == {b"content-length": b"12", b"etag": b'"a b"', b"x-empty": b"", b"x-padded": b"v w"}
    assert head.text(b"etag") == '"a b"'
    assert head.text(b"missing") is None
    assert "200" in repr(head)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 299 any thing \xe9 \t at all",
        b"HTTP/1.0 200 OK",
    ],
)
def test_accepts_status_line(line: bytes) -> None:
    assert parse_head(line).status in (200, 299)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"\r\n" + OK,
        b" HTTP/1.1 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/1.1200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 20x OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x7fK",
        b"ICY 200 OK",
        b"<html>",
    ],
)
def test_refuses_status_line(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(line)


@pytest.mark.parametrize(
    "field",
    [
        b"no colon",
        b": no name",
        b"Name : space before the colon",
        b"Na me: space in the name",
        b"Name\t: tab before the colon",
        b" Folded: at once",
        b"A: b\r\n folded",
        b"A: b\r\n\tfolded",
        b"A: b\nC: d",
        b"A: b\rC: d",
        b"A: b\r",
        b"A: b\n",
        b"A: b\x00c",
        b"A: b\x0bc",
        b"A: b\x7fc",
        b"A\x00: b",
        b"A\xe9: b",
        b"(A): b",
        b"A: b\r\n",
        b"A: b\r\n\r\nC: d",
    ],
)
def test_refuses_field(field: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(OK + b"\r\nFirst: 1\r\n" + field)


def test_names_the_line_that_is_wrong_and_no_more_of_it_than_needed() -> None:
    with pytest.raises(ProtocolError, match=r"bad name"):
        parse_head(OK + b"\r\nGood: 1\r\nbad name: 2\r\nAlso: 3")
    with pytest.raises(ProtocolError) as caught:
        parse_head(OK + b"\r\n" + b"x" * 10_000)
    assert len(str(caught.value)) < 300


def test_joins_fields_of_one_name() -> None:
    head = parse_head(OK + b"\r\nVary: a\r\nOther: x\r\nvary: b \r\nVARY:")
    assert head.headers == {b"vary": b"a, b, ", b"other": b"x"}


# -------------------------------------------------------------------------------------------------------------- framing


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"+1",
        b"1.0",
        b"0x10",
        b"1_0",
        b"1 0",
        b"1, 1",
        b"1,",
        b"\xb2",
        b"ten",
        b"9" * 20,
        pytest.param(b"9" * 5000, id="5000 digits"),
    ],
)
def test_refuses_length(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(OK + b"\r\nContent-Length: " + value)


def test_refuses_two_lengths_unless_they_are_one() -> None:
    assert parse_head(OK + b"\r\nContent-Length: 5\r\nContent-Length: 5").length == 5
    for second in (b"6", b"05", b""):
        with pytest.raises(ProtocolError):
            parse_head(OK + b"\r\nContent-Length: 5\r\ncontent-length: " + second)


def test_refuses_length_beside_chunks() -> None:
    for fields in (
        b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
    ):
        with pytest.raises(ProtocolError):
            parse_head(OK + fields)


@pytest.mark.parametrize("value", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"chunked;a=b", b""])
def test_refuses_transfer_coding(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(OK + b"\r\nTransfer-Encoding: " + value)


def test_refuses_transfer_coding_given_twice() -> None:
    with pytest.raises(ProtocolError):
        parse_head(OK + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED \t"])
def test_knows_chunks(value: bytes) -> None:
    head = parse_head(OK + b"\r\nTransfer-Encoding: " + value)
    assert (head.is_chunked, head.length, head.keeps_alive) == (True, None, True)


@pytest.mark.parametrize("status", [100, 103, 204, 304])
@pytest.mark.parametrize("field", [b"", b"\r\nContent-Length: 7", b"\r\nTransfer-Encoding: chunked"])
def test_some_answers_have_no_body(status: int, field: bytes) -> None:
    head = parse_head(b"HTTP/1.1 %d X" % status + field)
    assert (head.length, head.is_chunked) == (0, False)


def test_answer_to_head_has_no_body_but_its_length_can_be_read() -> None:
    head = parse_head(OK + b"\r\nContent-Length: 12345", is_head=True)
    assert (head.length, head.headers[b"content-length"]) == (0, b"12345")
    assert head.keeps_alive


def test_body_without_length_ends_the_connection() -> None:
    head = parse_head(OK)
    assert (head.length, head.is_chunked, head.keeps_alive) == (None, False, False)


@pytest.mark.parametrize(
    ("raw", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close", False),
    ],
)
def test_knows_whether_the_connection_goes_on(raw: bytes, *, keeps_alive: bool) -> None:
    assert parse_head(raw + b"\r\nContent-Length: 0").keeps_alive is keeps_alive


def test_chunks_from_an_old_server_end_the_connection() -> None:
    # RFC 9112, section 6.1: HTTP/1.0 has no transfer codings, so that its framing is not to be trusted further.
    assert not parse_head(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked").keeps_alive


# --------------------------------------------------------------------------------------------------------------- ranges


def test_reads_content_range() -> None:
    assert content_range(b"bytes 0-0/1") == (0, 1, 1)
    assert content_range(b"bytes 5-9/100") == (5, 10, 100)
    assert content_range(b"Bytes 5-9/10") == (5, 10, 10)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes 0-1",
        b"bytes 0-1/",
        b"bytes 0-1/*",
        b"bytes */10",
        b"bytes=0-1/2",
        b"bytes  0-1/2",
        b"bytes -1/2",
        b"bytes 0-/2",
        b"bytes 1-0/2",
        b"bytes 0-2/2",
        b"bytes 2-2/2",
        b"bytes +0-1/2",
        b"bytes 0-1/2 ",
        b"bytes 0-1/2,3-4/5",
        b"bytes 0x0-1/2",
        b"items 0-1/2",
        pytest.param(b"bytes 0-" + b"9" * 5000 + b"/" + b"9" * 5001, id="5000 digits"),
    ],
)
def test_refuses_content_range(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        content_range(value)


# --------------------------------------------------------------------------------------------------------------- chunks


def decode(raw: bytes, cuts: list[int] | None = None) -> ChunkedDecoder:
    decoder = ChunkedDecoder()
    start = 0
    for cut in [*sorted(cuts or []), len(raw)]:
        if cut > start:
            decoder.feed(raw[start:cut])
            start = cut
    return decoder


def test_decodes_chunks() -> None:
    decoder = decode(b'4\r\nWiki\r\n0A;name=v;q="x"\r\n0123456789\r\n1 \t\r\n!\r\n000\r\nX: y\r\n\r\n')
    assert decoder.is_done
    assert bytes(decoder.body) == b"Wiki0123456789!"


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b";ext\r\n",
        b"4\r\nWikiX\r\n",
        b"4\r\nWiki\n0\r\n\r\n",
        b"1\na\n0\n\n\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;a\x00b\r\na\r\n",
        b"0\r\nX: a\n\nb\r\n\r\n",
        b"0\r\nnot a field\r\n\r\n",
        b"0\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"F" * 16 + b"\r\n",
        pytest.param(b"1" * 9000, id="endless size"),
        pytest.param(b"1;" + b"e" * 9000 + b"\r\na\r\n", id="long extension"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * 20_000, id="long trailer"),
    ],
)
def test_refuses_chunks(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(raw)
    with pytest.raises(ProtocolError):
        decode(raw, list(range(min(len(raw), 10_000))))


def test_refuses_what_follows_the_last_chunk() -> None:
    decoder = decode(b"0\r\n\r\n")
    assert decoder.is_done
    with pytest.raises(ProtocolError):
        decoder.feed(b"x")


def test_waits_for_the_end() -> None:
    raw = b"3\r\nabc\r\n0\r\nT: v\r\n\r\n"
    for end in range(len(raw)):
        assert not decode(raw[:end]).is_done
    assert decode(raw).is_done


# ------------------------------------------------------------------------------------ differential against http.client

TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUE = st.text([chr(c) for c in [*range(0x21, 0x7F), *range(0x80, 0x100), 0x20, 0x09]], max_size=20)
RESERVED = ("content-length", "transfer-encoding", "connection")
FIELDS = st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in RESERVED), VALUE), max_size=8)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    raw, start = b"", 0
    for number, size in enumerate(sizes):
        piece = body[start : start + size]
        if piece:
            raw += b"%x%s\r\n%s\r\n" % (len(piece), b";n=%d" % number if number % 2 else b"", piece)
        start += size
    if body[start:]:
        raw += b"%X\r\n%s\r\n" % (len(body[start:]), body[start:])
    return raw + b"0\r\n\r\n"


@given(
    version=st.sampled_from([b"1.0", b"1.1"]),
    status=st.integers(200, 999).filter(lambda code: code not in (204, 304)),
    reason=VALUE,
    fields=FIELDS,
    body=st.binary(max_size=60),
    framing=st.sampled_from(["length", "chunks", "close"]),
    sizes=st.lists(st.integers(1, 20), max_size=5),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_reads_valid_answers_as_http_client_does(
    version: bytes,
    status: int,
    reason: str,
    fields: list[tuple[str, str]],
    body: bytes,
    framing: str,
    sizes: list[int],
    method: str,
) -> None:
    head = b"HTTP/" + version + b" %d " % status + reason.encode("latin-1")
    for name, value in fields:
        head += b"\r\n" + name.encode() + b": " + value.encode("latin-1")
    payload = body
    if framing == "length":
        head += b"\r\nContent-Length: %d" % len(body)
    elif framing == "chunks":
        head += b"\r\nTransfer-Encoding: chunked"
        payload = chunked(body, sizes)
    ours = parse_head(head, is_head=method == "HEAD")
    sent = b"" if method == "HEAD" else payload
    theirs, their_body, left = read_with_http_client(head + b"\r\n\r\n" + sent, method)
    same_head(ours, theirs)
    assert left == b""
    if method == "HEAD":
        assert (ours.length, their_body) == (0, b"")
    elif framing == "chunks":
        assert ours.is_chunked
        assert bytes(decode(payload).body) == their_body == body
    else:
        assert ours.length == (len(body) if framing == "length" else None)
        assert their_body == body
    if framing != "close" and version == b"1.1":
        assert ours.keeps_alive


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.0 404 X",
            b"HTTP/1.1 200",
            b"HTTP/1.1  200 OK",
            b"\r\n",
            b"\r",
            b"\n",
            b" ",
            b"\t",
            b":",
            b": ",
            b"A",
            b"a",
            b"value",
            b"\x00",
            b"\x85",
            b"\xff",
            b"\x1c",
            b",",
            b";",
            b"Content-Length: 5",
            b"content-length:5 ",
            b"Content-Length: 05",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"Connection: close",
        ]
    ),
    max_size=14,
).map(b"".join)


@settings(max_examples=500)
@given(start=st.sampled_from([b"", OK, OK + b"\r\n"]), rest=FRAGMENTS)
def test_what_is_accepted_is_read_as_http_client_reads_it(start: bytes, rest: bytes) -> None:
    raw = start + rest
    try:
        ours = parse_head(raw)
    except ProtocolError:
        return
    body = b"12345" if ours.length == 5 else b""
    payload = b"5\r\n12345\r\n0\r\n\r\n" if ours.is_chunked else body
    theirs, their_body, left = read_with_http_client(raw + b"\r\n\r\n" + payload)
    same_head(ours, theirs)
    assert (their_body, left) == (b"12345" if ours.is_chunked else body, b"")


CHUNK_FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"0\r\n",
            b"\r\n",
            b"1\r\na\r\n",
            b"5\r\n12345\r\n",
            b"a;x=y\r\n0123456789\r\n",
            b"5 \r\n",
            b"12345",
            b"\n",
            b"\r",
            b"3;",
            b"T: v\r\n",
            b" ",
            b"_",
            b"0x1\r\na\r\n",
            b"0\r\n\r\n",
        ]
    ),
    max_size=10,
).map(b"".join)


@settings(max_examples=500)
@example(raw=b"3;a\n1234\r\n0\r\n\r\n", cuts=[])
@example(raw=b"3;\nab\r\n0\r\n\r\n\r\n0\r\n\r\n", cuts=[])
@given(raw=CHUNK_FRAGMENTS, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_chunks_that_are_accepted_are_read_as_http_client_reads_them(raw: bytes, cuts: list[int]) -> None:
    try:
        whole = decode(raw)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decode(raw, cuts)
        return
    split = decode(raw, cuts)
    assert (split.is_done, split.body) == (whole.is_done, whole.body)
    if whole.is_done:
        _, body, left = read_with_http_client(OK + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
        assert (body, left) == (bytes(whole.body), b"")


@given(body=st.binary(max_size=300), sizes=st.lists(st.integers(1, 50), max_size=8), seed=st.integers(0, 2**32))
def test_decodes_the_same_however_the_bytes_arrive(body: bytes, sizes: list[int], seed: int) -> None:
    raw = chunked(body, sizes)
    chance = random.Random(seed)
    decoder = decode(raw, [chance.randrange(len(raw)) for _ in range(chance.randrange(30))])
    assert decoder.is_done
    assert bytes(decoder.body) == body


# ----------------------------------------------------------------------------------------------------------------- fuzz


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=200), FRAGMENTS), st.booleans())
def test_any_bytes_are_a_head_or_a_protocol_error(raw: bytes, is_head: bool) -> None:
    try:
        parse_head(raw, is_head=is_head)
    except ProtocolError:
        pass


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"bytes " + tail)))
def test_any_bytes_are_a_range_or_a_protocol_error(raw: bytes) -> None:
    try:
        start, end, size = content_range(raw)
    except ProtocolError:
        return
    assert 0 <= start < end <= size


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=200), CHUNK_FRAGMENTS), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_are_chunks_or_a_protocol_error(raw: bytes, cuts: list[int]) -> None:
    try:
        decoder = decode(raw, cuts)
    except ProtocolError:
        return
    assert len(decoder.body) <= len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(OK + b"\r\nA: b" * 10_000 + b"\r\nbad", id="many fields"),
        pytest.param(OK + b"\r\nA:" + b" " * 60_000 + b"\x00", id="white space"),
        pytest.param(OK + b"\r\nA:" + b" x" * 30_000 + b"\x00", id="words"),
        pytest.param(OK + b"\r\n" + b"a" * 60_000, id="long name"),
        pytest.param(OK + b" " * 60_000 + b"\x00", id="long reason"),
    ],
)
def test_no_head_takes_long_to_refuse(raw: bytes) -> None:
    # A pattern that backtracks takes seconds to hours over these.
    started = time.process_time()
    with pytest.raises(ProtocolError):
        parse_head(raw)
    assert time.process_time() - started < 0.5
