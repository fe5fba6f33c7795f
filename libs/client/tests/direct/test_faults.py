"""Connections that fail: the right bytes come all the same, or one clear error does, in bounded time."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from s3torch.client import (
    ChecksumError,
    GetRequest,
    ObjectChangedError,
    ProtocolError,
    S3Client,
    S3ConnectionError,
    S3TimeoutError,
)
from s3torch.client.checksum import compute
from s3torch.harness.servers.scripted import Answer, Request, ScriptedServer, Wire, in_turn, object_answer

MakeClient = Callable[..., S3Client]
DATA = random.Random(7).randbytes(300_000)
CRC32 = compute("crc32", [memoryview(DATA)])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer; the figures leave room for a busy machine."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def fetch(client: S3Client, request: GetRequest | None = None) -> bytes:
    data = client.engine.start_get(request or GetRequest("bucket", "key")).result().data
    assert isinstance(data, bytes)
    return data


def hang_up(request: Request, wire: Wire) -> None:
    wire.close()


def stall(request: Request, wire: Wire) -> None:
    wire.stall()
    wire.close()


def cut_answer(at: int, *, is_reset: bool) -> Answer:
    """Promise all of the object, then break the connection."""

    def answer(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": '"one"'}, len(DATA)) + DATA[:at])
        if is_reset:
            wire.stall(0.1)  # a reset overtakes what the client has not taken yet
            wire.reset()
        else:
            wire.close()

    return answer


# Connections that end


def test_connections_that_the_server_closes_after_an_answer_cost_no_attempt(make_client: MakeClient) -> None:
    store = object_answer(DATA)

    def answer(request: Request, wire: Wire) -> None:
        store(request, wire)
        wire.close()

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=1)
        for _ in range(10):
            assert fetch(client) == DATA


@pytest.mark.parametrize("is_reset", [False, True])
def test_connections_closed_just_when_they_are_used_again_cost_no_attempt(
    make_client: MakeClient, *, is_reset: bool
) -> None:
    store = object_answer(DATA)
    used: set[int] = set()

    def answer(request: Request, wire: Wire) -> None:
        if request.connection in used:
            wire.reset() if is_reset else wire.close()
            return
        used.add(request.connection)
        store(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=1)
        for _ in range(5):
            assert fetch(client) == DATA
        assert client.put("bucket", "key", b"x" * 100).etag == '"one"'


def test_a_server_that_always_hangs_up_is_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(hang_up) as server:
        client = make_client(server.endpoint, max_attempts=3)
        with within(15), pytest.raises(S3ConnectionError, match="after 3 attempts") as caught:
            fetch(client)
        assert len(server.requests) == 3
    error = caught.value
    assert (error.operation, error.bucket, error.key) == ("GetObject", "bucket", "key")
    assert error.is_retryable
    assert error.remedy
    assert isinstance(error, ConnectionError)


@pytest.mark.parametrize("at", [0, 1, 100_000, len(DATA) - 1])
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_body_that_breaks_is_resumed_where_it_broke(make_client: MakeClient, at: int, *, is_reset: bool) -> None:
    with ScriptedServer(in_turn(cut_answer(at, is_reset=is_reset), object_answer(DATA))) as server:
        assert fetch(make_client(server.endpoint)) == DATA
    first, second = server.requests
    assert first.range is None
    assert second.headers["if-match"] == '"one"'
    if at:
        assert second.range == (at, len(DATA))
    else:
        assert second.range is None


def test_a_range_that_breaks_twice_is_resumed_twice(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA, sends=[10, 20])) as server:
        client = make_client(server.endpoint)
        assert fetch(client, GetRequest("bucket", "key", 1000, 2000)) == DATA[1000:2000]
    assert [request.range for request in server.requests] == [(1000, 2000), (1010, 2000), (1030, 2000)]
    assert [request.headers.get("if-match") for request in server.requests] == [None, '"one"', '"one"']


def test_what_is_resumed_goes_into_the_callers_memory(make_client: MakeClient) -> None:
    memory = bytearray(b"?" * (len(DATA) + 2))
    with ScriptedServer(object_answer(DATA, sends=[100_000])) as server:
        make_client(server.endpoint).read_into("bucket", "key", memoryview(memory)[1:-1])
    assert memory == b"?" + DATA + b"?"


def test_the_end_of_an_object_is_resumed(make_client: MakeClient) -> None:
    def cut(request: Request, wire: Wire) -> None:
        headers = {"ETag": '"one"', "Content-Range": f"bytes 299900-299999/{len(DATA)}"}
        wire.send(wire.head(206, headers, 100) + DATA[-100:-60])
        wire.close()

    with ScriptedServer(in_turn(cut, object_answer(DATA))) as server:
        assert fetch(make_client(server.endpoint), GetRequest("bucket", "key", -100)) == DATA[-100:]
    assert server.requests[0].headers["range"] == "bytes=-100"
    assert server.requests[1].range == (299_940, 300_000)


def test_an_object_that_breaks_at_every_attempt_is_an_error_and_no_byte(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA, sends=[10] * 100)) as server:
        client = make_client(server.endpoint, max_attempts=4)
        with within(15), pytest.raises(S3ConnectionError, match="after 4 attempts"):
            fetch(client)
        assert [request.range for request in server.requests[1:]] == [(10 * n, len(DATA)) for n in (1, 2, 3)]


def test_nothing_listening_is_an_error_in_bounded_time(make_client: MakeClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        client = make_client(f"http://127.0.0.1:{taken.getsockname()[1]}", max_attempts=3)
        with within(15), pytest.raises(S3ConnectionError, match="nothing accepts connections") as caught:
            client.head_object("bucket", "key")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert "endpoint" in str(caught.value)


def test_a_name_that_is_not_known_is_an_error_in_bounded_time(make_client: MakeClient) -> None:
    client = make_client("http://no-such-host.invalid", max_attempts=2)
    with within(15), pytest.raises(S3ConnectionError) as caught:
        client.head_object("bucket", "key")
    assert "name" in str(caught.value) or "DNS" in str(caught.value)


def test_a_server_that_does_not_accept_is_a_timeout(make_client: MakeClient) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill its queue: further connections get no answer at all
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client = make_client(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.3, max_attempts=2)
        with within(15), pytest.raises(S3TimeoutError, match="no connection"):
            client.head_object("bucket", "key")


# Connections that stand still


@pytest.mark.parametrize("sent", ["nothing", "a piece of the head", "a piece of the body"])
def test_a_server_that_stops_is_left_for_a_new_connection(make_client: MakeClient, sent: str) -> None:
    def stop(request: Request, wire: Wire) -> None:
        head = wire.head(200, {"ETag": '"one"'}, len(DATA))
        wire.send({"nothing": b"", "a piece of the head": head[:20]}.get(sent, head + DATA[:1000]))
        wire.stall()

    with ScriptedServer(in_turn(stop, object_answer(DATA))) as server:
        client = make_client(server.endpoint, read_timeout=1.0)
        with within(15):
            assert fetch(client) == DATA
        assert server.requests[1].range == ((1000, len(DATA)) if sent == "a piece of the body" else None)


def test_a_server_that_always_stops_is_a_timeout(make_client: MakeClient) -> None:
    with ScriptedServer(stall) as server:
        client = make_client(server.endpoint, read_timeout=0.3, max_attempts=2)
        with within(15), pytest.raises(S3TimeoutError, match="no byte moved") as caught:
            fetch(client)
        assert len(server.requests) == 2
        assert isinstance(caught.value, TimeoutError)


def test_an_upload_that_is_not_taken_is_a_timeout(make_client: MakeClient) -> None:
    with ScriptedServer(stall) as server:
        client = make_client(server.endpoint, read_timeout=0.3, max_attempts=2, part_size=64 * 1024 * 1024)
        with within(15), pytest.raises(S3TimeoutError):
            client.put("bucket", "key", bytes(30_000_000))


def test_a_server_that_only_trickles_meets_the_deadline_of_the_whole(make_client: MakeClient) -> None:
    def trickle(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": '"one"'}, len(DATA)))
        for byte in DATA[:1000]:
            wire.send(bytes([byte]))
            wire.stall(0.05)

    with ScriptedServer(trickle) as server:
        client = make_client(server.endpoint, operation_timeout=1.0)
        with within(15), pytest.raises(S3TimeoutError, match="not finished within"):
            fetch(client)


def test_time_in_which_nobody_waits_does_not_count(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint, read_timeout=1.5, operation_timeout=2.0, max_attempts=1)
        transfer = client.engine.start_get(GetRequest("bucket", "key"))
        transfer.advance(0.1)
        time.sleep(2.5)
        assert transfer.result().data == DATA
        assert len(server.requests) == 1


# Bodies that are not what was announced


def without_length(headers: dict[str, str]) -> Answer:
    def answer(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": '"one"', **headers}) + DATA)
        wire.close()

    return answer


def test_a_body_whose_end_cannot_be_known_is_refused(make_client: MakeClient) -> None:
    with ScriptedServer(without_length({})) as server:
        with within(15), pytest.raises(ProtocolError, match="how long"):
            fetch(make_client(server.endpoint))
        assert len(server.requests) == 3


def test_a_body_without_length_is_held_to_the_size_that_is_known(make_client: MakeClient) -> None:
    with ScriptedServer(without_length({})) as server:
        client = make_client(server.endpoint)
        assert fetch(client, GetRequest("bucket", "key", size=len(DATA))) == DATA
        with within(15), pytest.raises(ProtocolError, match="bytes were announced"):
            fetch(client, GetRequest("bucket", "key", size=len(DATA) + 1))


def chunked_answer(data: bytes, *, is_whole: bool = True) -> Answer:
    def answer(request: Request, wire: Wire) -> None:
        start, end = request.range or (0, None)
        body = data[start:end]
        headers = {
            "ETag": '"one"',
            "Transfer-Encoding": "chunked",
            "Content-Range": f"bytes {start}-{start + len(body) - 1}/{len(data)}",
        }
        if request.range is None:
            headers["x-amz-decoded-content-length"] = str(len(body))
            del headers["Content-Range"]
        wire.send(wire.head(206 if request.range else 200, headers))
        pieces = [body[i : i + 70_000] for i in range(0, len(body), 70_000)]
        wire.send(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces))
        if is_whole:
            wire.send(b"0\r\n\r\n")
        else:
            wire.close()

    return answer


@pytest.mark.parametrize("span", [(None, None), (5, 200_000)])
def test_a_body_in_chunks_is_read(make_client: MakeClient, span: tuple[int | None, int | None]) -> None:
    with ScriptedServer(chunked_answer(DATA)) as server:
        client = make_client(server.endpoint)
        for _ in range(2):
            assert fetch(client, GetRequest("bucket", "key", *span)) == DATA[span[0] : span[1]]
        assert server.connections == 1


def test_a_body_in_chunks_that_is_cut_is_read_again(make_client: MakeClient) -> None:
    with ScriptedServer(in_turn(chunked_answer(DATA, is_whole=False), object_answer(DATA))) as server:
        assert fetch(make_client(server.endpoint)) == DATA
        assert len(server.requests) == 2


def test_a_body_in_chunks_of_another_length_is_refused(make_client: MakeClient) -> None:
    def lie(request: Request, wire: Wire) -> None:
        headers = {"ETag": '"one"', "Transfer-Encoding": "chunked", "x-amz-decoded-content-length": "7"}
        wire.send(wire.head(200, headers) + b"5\r\nhello\r\n0\r\n\r\n")

    with ScriptedServer(lie) as server, within(15), pytest.raises(ProtocolError, match="7 bytes were announced"):
        fetch(make_client(server.endpoint))


def test_more_bytes_than_announced_are_refused(make_client: MakeClient) -> None:
    def lie(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": '"one"'}, 5) + b"hello, world")

    with ScriptedServer(lie) as server, within(15), pytest.raises(ProtocolError, match="more bytes"):
        fetch(make_client(server.endpoint))


def test_garbage_is_refused(make_client: MakeClient) -> None:
    with ScriptedServer(lambda request, wire: wire.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as server:
        with within(15), pytest.raises(ProtocolError, match="malformed") as caught:
            fetch(make_client(server.endpoint))
        assert len(server.requests) == 3
    assert (caught.value.operation, caught.value.key) == ("GetObject", "key")
    assert "endpoint" in (caught.value.remedy or "")
    endless = ScriptedServer(lambda request, wire: wire.send(b"x" * 200_000))
    with endless as server, within(15), pytest.raises(ProtocolError, match="longer than"):
        fetch(make_client(server.endpoint))


def test_one_malformed_answer_is_asked_again(make_client: MakeClient) -> None:
    broken = in_turn(lambda request, wire: wire.send(b"\x00\x00\r\n\r\n"), object_answer(DATA))
    with ScriptedServer(broken) as server:
        assert fetch(make_client(server.endpoint)) == DATA
        assert server.connections == 2


# Answers to something else


def other_range(start: int, end: int, size: int = len(DATA)) -> Answer:
    def answer(request: Request, wire: Wire) -> None:
        wire.respond(206, DATA[start:end], {"ETag": '"one"', "Content-Range": f"bytes {start}-{end - 1}/{size}"})

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        other_range(0, 10),
        other_range(101, 201),
        other_range(100, 199),
        other_range(100, 201),
        lambda request, wire: wire.respond(206, DATA[100:200], {"ETag": '"one"'}),
        lambda request, wire: wire.respond(206, DATA[:50], {"ETag": '"one"', "Content-Range": "bytes 100-199/300000"}),
        lambda request, wire: wire.respond(206, DATA[:100], {"ETag": '"one"', "Content-Range": "bytes 100-199/*"}),
        lambda request, wire: wire.respond(200, DATA, {"ETag": '"one"'}),
    ],
    ids=["elsewhere", "later", "shorter", "longer", "no range", "wrong length", "no size", "range ignored"],
)
def test_another_range_than_asked_for_is_refused(make_client: MakeClient, answer: Answer) -> None:
    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint)
        memory = memoryview(bytearray(b"?" * 100))
        with within(15), pytest.raises(ProtocolError):
            client.engine.start_get(GetRequest("bucket", "key", 100, 200), into=memory).result()
        assert bytes(memory) == b"?" * 100
    with ScriptedServer(in_turn(answer, object_answer(DATA))) as server:
        assert fetch(make_client(server.endpoint), GetRequest("bucket", "key", 100, 200)) == DATA[100:200]


def test_a_store_without_ranges_serves_whole_objects(make_client: MakeClient) -> None:
    with ScriptedServer(lambda request, wire: wire.respond(200, DATA, {"ETag": '"one"'})) as server:
        assert make_client(server.endpoint).read("bucket", "key") == DATA


def test_a_resumed_part_that_is_elsewhere_is_refused(make_client: MakeClient) -> None:
    script = in_turn(cut_answer(1000, is_reset=False), other_range(0, len(DATA)))
    with ScriptedServer(script) as server, within(15), pytest.raises(ProtocolError):
        fetch(make_client(server.endpoint))


@pytest.mark.parametrize("honours_if_match", [True, False])
def test_an_object_replaced_between_attempts_is_an_error(make_client: MakeClient, *, honours_if_match: bool) -> None:
    replaced = object_answer(DATA[::-1], etag='"two"')

    def answer(request: Request, wire: Wire) -> None:
        if not honours_if_match:
            request.headers.pop("if-match", None)
        replaced(request, wire)

    with ScriptedServer(in_turn(cut_answer(1000, is_reset=False), answer)) as server:
        with within(15), pytest.raises(ObjectChangedError, match="replaced"):
            fetch(make_client(server.endpoint))
        assert len(server.requests) == 2


def test_an_object_that_has_grown_between_attempts_is_an_error(make_client: MakeClient) -> None:
    # A store with weak ETags: the same one for another object.
    script = in_turn(cut_answer(1000, is_reset=False), object_answer(DATA + b"more"))
    with ScriptedServer(script) as server, within(15), pytest.raises(ObjectChangedError):
        fetch(make_client(server.endpoint))


@pytest.mark.parametrize("honours_if_match", [True, False])
def test_an_object_other_than_the_one_asked_for_is_an_error(make_client: MakeClient, *, honours_if_match: bool) -> None:
    store = object_answer(DATA, etag='"two"')

    def answer(request: Request, wire: Wire) -> None:
        assert request.headers["if-match"] == '"one"'
        if not honours_if_match:
            del request.headers["if-match"]
        store(request, wire)

    with ScriptedServer(answer) as server, within(15), pytest.raises(ObjectChangedError):
        fetch(make_client(server.endpoint), GetRequest("bucket", "key", etag='"one"'))


@pytest.mark.parametrize("pause", [0.05, 0.7])
def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(make_client: MakeClient, pause: float) -> None:
    def answer(request: Request, wire: Wire) -> None:
        name = request.path.encode()
        wire.respond(200, name, {"ETag": '"one"'})
        wire.stall(0.01)
        wire.respond(200, name, {"ETag": '"one"'})  # RFC 9112, section 9.2: not an answer to anything

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint)
        for name in ("a", "b", "c"):
            assert fetch(client, GetRequest("bucket", name)) == f"/bucket/{name}".encode()
            time.sleep(pause)


# Checksums


def test_damaged_bytes_are_read_again(make_client: MakeClient) -> None:
    damaged = bytearray(DATA)
    damaged[1234] ^= 1
    headers = {"x-amz-checksum-crc32": CRC32}
    script = in_turn(object_answer(bytes(damaged), headers=headers), object_answer(DATA, headers=headers))
    with ScriptedServer(script) as server:
        assert fetch(make_client(server.endpoint)) == DATA
        assert len(server.requests) == 2
        assert {request.headers.get("x-amz-checksum-mode") for request in server.requests} == {"ENABLED"}
        assert server.requests[1].range is None


def test_a_wrong_checksum_is_not_held_against_the_next_answer(make_client: MakeClient) -> None:
    wrong = {"x-amz-checksum-crc32": "AAAAAA=="}
    right = {"x-amz-checksum-crc32": CRC32}
    with ScriptedServer(in_turn(object_answer(DATA, headers=wrong), object_answer(DATA, headers=right))) as server:
        assert fetch(make_client(server.endpoint)) == DATA
        assert len(server.requests) == 2


def test_bytes_that_stay_damaged_are_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA, headers={"x-amz-checksum-crc32": "AAAAAA=="})) as server:
        with within(15), pytest.raises(ChecksumError, match="crc32"):
            fetch(make_client(server.endpoint, max_attempts=3))
        assert len(server.requests) == 3


def test_checksums_of_resumed_bodies_are_verified_over_all_of_them(make_client: MakeClient) -> None:
    def damaged(request: Request, wire: Wire) -> None:
        headers = {"ETag": '"one"', "x-amz-checksum-crc32": CRC32}
        wire.send(wire.head(200, headers, len(DATA)) + b"\x00" * 1000)
        wire.close()

    with ScriptedServer(in_turn(damaged, object_answer(DATA, headers={"x-amz-checksum-crc32": CRC32}))) as server:
        assert fetch(make_client(server.endpoint)) == DATA
        assert [request.range for request in server.requests] == [None, (1000, len(DATA)), None]


def test_checksums_that_say_nothing_of_the_bytes_are_ignored(make_client: MakeClient) -> None:
    headers = {"x-amz-checksum-crc32": "AAAAAA==-2", "x-amz-checksum-type": "COMPOSITE"}
    with ScriptedServer(object_answer(DATA, headers=headers)) as server:
        assert fetch(make_client(server.endpoint)) == DATA
    with ScriptedServer(object_answer(DATA, headers={"x-amz-checksum-crc32": "AAAAAA=="})) as server:
        client = make_client(server.endpoint)
        assert fetch(client, GetRequest("bucket", "key", 5, 10)) == DATA[5:10]
        unverified = make_client(server.endpoint, verify_checksums=False)
        assert fetch(unverified) == DATA
        assert "x-amz-checksum-mode" not in server.requests[-1].headers


# Pauses


def test_a_consumer_slower_than_the_servers_patience_gets_every_byte(make_client: MakeClient) -> None:
    big = random.Random(3).randbytes(12_000_000)  # more than the sockets' buffers hold
    store = object_answer(big)
    hung_up = threading.Event()

    def impatient(request: Request, wire: Wire) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        wire.sock.settimeout(1.0)
        try:
            store(request, wire)
        except TimeoutError:
            wire.close()
            hung_up.set()
            return
        wire.sock.settimeout(1.0)  # idle connections are not kept for longer, either

    with ScriptedServer(impatient) as server:
        client = make_client(server.endpoint, max_attempts=30, window=4)
        results = client.get_many([GetRequest("bucket", str(number)) for number in range(6)])
        for result in results:
            assert result.data == big
            hung_up.wait(2.5)
    assert hung_up.is_set()


def test_an_abandoned_iterator_leaves_no_connection_in_flight(make_client: MakeClient) -> None:
    store = object_answer(DATA)

    def answer(request: Request, wire: Wire) -> None:
        if request.path != "/bucket/0":
            wire.send(wire.head(200, {"ETag": '"one"'}, len(DATA)))
            wire.sock.settimeout(20)
            assert wire.sock.recv(1) == b""  # until the client hangs up
            wire.close()
            return
        store(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint)
        results = client.get_many([GetRequest("bucket", str(number)) for number in range(8)])
        assert next(results).data == DATA
        deadline = time.monotonic() + 30
        while len(server.requests) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections == 8
        del results
        while server.open_connections > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections <= 1
        assert fetch(client, GetRequest("bucket", "0")) == DATA


def test_a_cancelled_transfer_touches_its_memory_no_more(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        memory = bytearray(len(DATA))
        transfer = client.engine.start_get(GetRequest("bucket", "key"), into=memoryview(memory))
        transfer.cancel()
        assert transfer.done()
        assert fetch(client) == DATA
        assert memory == bytes(len(DATA))
