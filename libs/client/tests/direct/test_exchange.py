"""One exchange over bytes that a script plays: whatever the splits, the same result or the same error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import ProtocolError
from s3torch.client.direct.exchange import Exchange
from s3torch.client.direct.http1 import ResponseHead

OK = b"HTTP/1.1 200 OK\r\n"
BODY = bytes(range(256)) * 3


class Script:
    """A transport that plays pieces of bytes; None stands for nothing there at the moment, and the end is the end."""

    def __init__(self, pieces: Sequence[bytes | None], *, takes: Sequence[int] = (), drains: bool = False) -> None:
        self.drains = drains
        self.pieces = deque(pieces)
        self.takes = deque(takes)
        self.sent = b""

    def recv_into(self, buffer: memoryview) -> int:
        assert buffer.nbytes, "asked for nothing"
        if not self.pieces:
            return 0
        piece = self.pieces.popleft()
        if piece is None:
            raise BlockingIOError
        count = min(len(piece), buffer.nbytes)
        buffer[:count] = piece[:count]
        if count < len(piece):
            self.pieces.appendleft(piece[count:])
        return count

    def send(self, data: memoryview) -> int:
        count = self.takes.popleft() if self.takes else data.nbytes
        if not count and data.nbytes:
            raise BlockingIOError
        count = min(count, data.nbytes)
        self.sent += bytes(data[:count])
        return count


class Asker:
    """Who asked: gives memory of the announced length, or has the body collected."""

    def __init__(self, *, gives: Callable[[int], int] | None = None) -> None:
        self.heads: list[ResponseHead] = []
        self.memory = bytearray()
        self._gives = gives

    def on_head(self, head: ResponseHead) -> memoryview | None:
        self.heads.append(head)
        if self._gives is None or head.length is None:
            return None
        self.memory = bytearray(self._gives(head.length))
        return memoryview(self.memory)


def straight() -> Asker:
    return Asker(gives=lambda length: length)


def split(raw: bytes, cuts: Sequence[int], pauses: Sequence[bool]) -> list[bytes | None]:
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(raw)}), len(raw)]
    pieces: list[bytes | None] = []
    for number, (start, end) in enumerate(pairwise(edges)):
        if number < len(pauses) and pauses[number]:
            pieces.append(None)
        pieces.append(raw[start:end])
    return pieces


def receive(exchange: Exchange, script: Script) -> bool:
    """Drive an exchange's receiving until it is complete or the script has nothing more to say."""
    for _ in range(10_000):
        try:
            if exchange.receive(script):
                return True
        except BlockingIOError:
            continue
    raise AssertionError("the exchange does not end")


def run(script: Script, asker: Asker, *, is_head: bool = False) -> Exchange:
    exchange = Exchange(asker, [memoryview(b"GET / HTTP/1.1\r\n\r\n")], is_head=is_head)
    assert exchange.send(script)
    assert receive(exchange, script)
    return exchange


def with_length(body: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(body: bytes) -> bytes:
    middle = len(body) // 3
    pieces = [piece for piece in (body[:middle], body[middle:]) if piece]
    return (
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        + b"0\r\n\r\n"
    )


def until_close(body: bytes) -> bytes:
    return OK + b"\r\n" + body


SPLITS = {
    "cuts": st.lists(st.integers(1, 1200), max_size=12),
    "pauses": st.lists(st.booleans(), max_size=14),
    "drains": st.booleans(),
}


@settings(max_examples=300)
@given(size=st.integers(0, 700), **SPLITS)
def test_any_split_fills_the_same_memory(size: int, cuts: list[int], pauses: list[bool], *, drains: bool) -> None:
    asker = straight()
    exchange = run(Script(split(with_length(BODY[:size]), cuts, pauses), drains=drains), asker)
    assert bytes(asker.memory) == BODY[:size]
    assert (exchange.filled, exchange.body) == (size, b"")
    assert [head.status for head in asker.heads] == [200]


@settings(max_examples=300)
@given(
    size=st.integers(0, 700),
    frame=st.sampled_from([with_length, in_chunks, until_close]),
    interim=st.sampled_from(
        [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3]
    ),
    **SPLITS,
)
def test_any_split_collects_the_same_body(
    size: int,
    frame: Callable[[bytes], bytes],
    interim: bytes,
    cuts: list[int],
    pauses: list[bool],
    *,
    drains: bool,
) -> None:
    asker = Asker()
    exchange = run(Script(split(interim + frame(BODY[:size]), cuts, pauses), drains=drains), asker)
    assert exchange.body == BODY[:size]
    assert [head.status for head in asker.heads] == [200]


@pytest.mark.parametrize("drains", [False, True])
@pytest.mark.parametrize("gives", [None, lambda length: length], ids=["collected", "straight"])
def test_every_byte_alone(gives: Callable[[int], int] | None, *, drains: bool) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + with_length(b"abcdef")
    asker = Asker(gives=gives)
    exchange = run(Script([bytes([byte]) for byte in raw], drains=drains), asker)
    assert (bytes(asker.memory) or exchange.body) == b"abcdef"


def test_a_long_head_is_read_and_an_endless_one_refused() -> None:
    head = OK + b"".join(b"X-%d: %s\r\n" % (number, b"v" * 100) for number in range(400))
    asker = straight()
    run(Script([head + b"Content-Length: 3\r\n\r\nabc"]), asker)
    assert bytes(asker.memory) == b"abc"
    with pytest.raises(ProtocolError, match="longer"):
        run(Script([OK, *[b"X: %s\r\n" % (b"v" * 1000)] * 100]), straight())


def test_endless_interim_answers_end_with_the_connection() -> None:
    with pytest.raises(ConnectionResetError):
        run(Script([b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000), straight())


def test_protocols_are_not_switched() -> None:
    with pytest.raises(ProtocolError):
        run(Script([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"]), straight())


@pytest.mark.parametrize("frame", [with_length, in_chunks])
@pytest.mark.parametrize("gives", [None, lambda length: length], ids=["collected", "straight"])
def test_a_truncated_answer_is_an_error_wherever_it_ends(
    frame: Callable[[bytes], bytes], gives: Callable[[int], int] | None
) -> None:
    raw = frame(b"0123456789")
    for end in range(len(raw)):
        exchange = Exchange(Asker(gives=gives), [])
        with pytest.raises(ConnectionResetError):
            receive(exchange, Script([raw[:end]] if end else []))
        assert exchange.has_begun == (end > 0)


def test_what_arrived_before_a_cut_is_kept_and_counted() -> None:
    asker = straight()
    exchange = Exchange(asker, [])
    with pytest.raises(ConnectionResetError, match="7 bytes"):
        receive(exchange, Script([OK + b"Content-Length: 10\r\n\r\n0", b"12"]))
    assert exchange.filled == 3
    assert asker.memory[:3] == b"012"


@pytest.mark.parametrize("gives", [None, lambda length: length], ids=["collected", "straight"])
def test_more_bytes_than_announced_are_an_error(gives: Callable[[int], int] | None) -> None:
    with pytest.raises(ProtocolError, match="more bytes"):
        run(Script([OK + b"Content-Length: 3\r\n\r\nabcd"]), Asker(gives=gives))


def test_bytes_behind_the_last_chunk_are_an_error() -> None:
    with pytest.raises(ProtocolError):
        run(Script([in_chunks(b"abc") + b"x"]), Asker())


def test_bytes_behind_an_answer_without_body_are_an_error() -> None:
    with pytest.raises(ProtocolError):
        run(Script([b"HTTP/1.1 204 No Content\r\n\r\nx"]), Asker())
    with pytest.raises(ProtocolError):
        run(Script([OK + b"Content-Length: 3\r\n\r\nabc"]), Asker(), is_head=True)


def test_no_byte_is_taken_that_is_not_the_answers_own() -> None:
    script = Script([OK + b"Content-Length: 3\r\n\r\na", b"bc" + OK])
    asker = straight()
    run(script, asker)
    assert list(script.pieces) == [OK]
    script = Script([OK + b"Content-Length: 3\r\n\r\na", b"bc" + OK])
    assert run(script, Asker()).body == b"abc"
    assert list(script.pieces) == [OK]


def test_an_answer_to_head_has_no_body() -> None:
    asker = Asker()
    exchange = run(Script([OK + b"Content-Length: 99\r\n\r\n"]), asker, is_head=True)
    assert exchange.body == b""
    assert asker.heads[0].headers[b"content-length"] == b"99"


@pytest.mark.parametrize("size", [0, 2, 4])
def test_memory_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="holds"):
        run(Script([OK + b"Content-Length: 3\r\n\r\nabc"]), Asker(gives=lambda _: size))


def test_errors_of_who_asked_pass_through() -> None:
    class Refusing(Asker):
        def on_head(self, head: ResponseHead) -> memoryview | None:
            raise KeyError("not mine")

    with pytest.raises(KeyError):
        run(Script([with_length(b"x")]), Refusing())


def test_destination_can_be_released_once_complete() -> None:
    asker = straight()
    exchange = run(Script([with_length(b"abc")]), asker)
    asker.memory.clear()  # impossible while a view of it is held
    assert exchange.filled == 3


PIECES = st.lists(st.binary(min_size=1, max_size=30), max_size=5)
TAKES = st.lists(st.integers(0, 25), max_size=30)


def send_some(exchange: Exchange, script: Script, turns: int) -> None:
    for _ in range(turns):
        try:
            if exchange.send(script):
                return
        except BlockingIOError:
            pass


@settings(max_examples=300)
@given(head=st.binary(min_size=1, max_size=30), body=PIECES, takes=TAKES, drains=st.booleans())
def test_sends_every_byte_once_and_in_order(head: bytes, body: list[bytes], takes: list[int], *, drains: bool) -> None:
    script = Script([], takes=takes, drains=drains)
    exchange = Exchange(Asker(), [memoryview(piece) for piece in [head, *body]])
    send_some(exchange, script, 100)
    assert exchange.is_sent
    assert script.sent == head + b"".join(body)
    assert exchange.sent == len(script.sent)


@settings(max_examples=300)
@given(
    head=st.binary(min_size=1, max_size=30),
    body=PIECES,
    cuts=st.lists(st.integers(1, 150), max_size=4),
    takes=TAKES,
    turns=st.integers(0, 12),
)
def test_body_replaced_at_any_point_sends_the_same_bytes(
    head: bytes, body: list[bytes], cuts: list[int], takes: list[int], turns: int
) -> None:
    script = Script([], takes=takes)
    memory = [bytearray(piece) for piece in body]
    exchange = Exchange(Asker(), [memoryview(head), *(memoryview(piece) for piece in memory)])
    send_some(exchange, script, turns)
    whole = b"".join(body)
    edges = [0, *sorted({cut for cut in cuts if cut < len(whole)}), len(whole)]
    copy = [memoryview(whole[start:end]) for start, end in pairwise(edges)]
    exchange.replace_body(copy, len(head))
    for piece in memory:
        piece[:] = b"?" * len(piece)  # whoever still sends from the old memory is found out
    send_some(exchange, script, 200)
    assert exchange.is_sent
    assert script.sent == head + whole


def test_body_replaced_lets_the_old_memory_go() -> None:
    memory = bytearray(b"x" * 100)
    exchange = Exchange(Asker(), [memoryview(b"head"), memoryview(memory)])
    script = Script([], takes=[4, 10, 0])
    send_some(exchange, script, 3)
    exchange.replace_body([memoryview(bytes(memory))], 4)
    memory.clear()  # impossible while a view of it is held
    send_some(exchange, script, 5)
    assert script.sent == b"head" + b"x" * 100


def test_an_error_may_come_while_the_body_is_being_sent() -> None:
    script = Script([b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!!"], takes=[10, 0, 0, 0])
    asker = Asker()
    exchange = Exchange(asker, [memoryview(b"PUT"), memoryview(bytes(1000))])
    send_some(exchange, script, 3)
    assert exchange.receive(script)
    assert not exchange.is_sent
    assert (asker.heads[0].status, exchange.body) == (403, b"no!!")


@settings(max_examples=300)
@given(
    raw=st.one_of(
        st.binary(max_size=120),
        st.lists(
            st.sampled_from(
                [
                    OK,
                    b"\r\n",
                    b"Content-Length: 3\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    b"abc",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.1 500 X\r\n",
                ]
            ),
            max_size=9,
        ).map(b"".join),
    ),
    gives=st.sampled_from([None, lambda length: min(length, 1000)]),
    is_head=st.booleans(),
    **SPLITS,
)
def test_any_bytes_end_in_an_answer_or_an_error(
    raw: bytes,
    gives: Callable[[int], int] | None,
    cuts: list[int],
    pauses: list[bool],
    *,
    is_head: bool,
    drains: bool,
) -> None:
    exchange = Exchange(Asker(gives=gives), [], is_head=is_head)
    try:
        receive(exchange, Script(split(raw, cuts, pauses), drains=drains))
    except (ProtocolError, ConnectionResetError):
        pass
