"""TLS, proxies and address families: trusted only where it should be, and resumed where it breaks."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3torch.client import (
    GetRequest,
    GetResult,
    ProtocolError,
    S3Client,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
    TLSError,
)
from s3torch.client.protocols import Transfer
from s3torch.harness.servers.scripted import Answer, Request, ScriptedServer, Wire, in_turn, object_answer

MakeClient = Callable[..., S3Client]
DATA = random.Random(11).randbytes(1_000_000)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer; the figures leave room for a busy machine."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def get(client: S3Client) -> bytes:
    return bytes(client.engine.start_get(GetRequest("bucket", "key")).result().data)


def bundle_of(server: ScriptedServer) -> str:
    assert server.certificates is not None
    return str(server.certificates.ca_bundle)


def accept(request: Request, wire: Wire) -> None:
    wire.read_body()
    wire.respond(200, b"", {"ETag": '"new"'})


def can_listen(host: str, family: int) -> bool:
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not can_listen("::1", socket.AF_INET6), reason="the machine has no IPv6 loopback")
needs_more_addresses = pytest.mark.skipif(
    not can_listen("127.0.0.2", socket.AF_INET), reason="the system gives 127.0.0.1 alone to the loopback interface"
)


# TLS


def test_a_bundle_that_is_given_is_trusted(make_client: MakeClient, tmp_path: Path) -> None:
    with ScriptedServer(object_answer(DATA), tls=tmp_path) as server:
        client = make_client(server.endpoint, ca_bundle=bundle_of(server))
        for _ in range(3):
            assert get(client) == DATA
        assert server.connections == 1
        assert {request.is_tls for request in server.requests} == {True}


def test_the_bundle_of_the_environment_is_trusted(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(object_answer(DATA), tls=tmp_path) as server:
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle_of(server))
        assert get(make_client(server.endpoint)) == DATA


def test_the_bundle_of_the_profile_is_trusted(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(object_answer(DATA), tls=tmp_path) as server:
        config = tmp_path / "config"
        config.write_text(f"[default]\nca_bundle = {bundle_of(server)}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        assert get(make_client(server.endpoint)) == DATA


def test_a_certificate_nobody_vouches_for_is_refused_at_once(make_client: MakeClient, tmp_path: Path) -> None:
    with ScriptedServer(object_answer(DATA), tls=tmp_path) as server:
        client = make_client(server.endpoint)
        with within(15), pytest.raises(TLSError, match="not trusted") as caught:
            get(client)
        assert server.connections == 1
        assert server.requests == []
    assert not caught.value.is_retryable
    assert "ca_bundle" in str(caught.value)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@needs_more_addresses
def test_a_certificate_for_another_host_is_refused_at_once(make_client: MakeClient, tmp_path: Path) -> None:
    with ScriptedServer(object_answer(DATA), host="127.0.0.2", tls=tmp_path) as server:
        client = make_client(server.endpoint, ca_bundle=bundle_of(server))
        with within(15), pytest.raises(TLSError, match=r"127\.0\.0\.2"):
            get(client)
        assert server.requests == []


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_bundle_that_cannot_be_read_is_an_error(
    make_client: MakeClient, tmp_path: Path, content: bytes | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    client = make_client("https://localhost:1", ca_bundle=str(bundle))
    with within(15), pytest.raises(TLSError, match=r"bundle\.pem"):
        get(client)


def begun_on(transfer: Transfer[GetResult], sock: socket.socket) -> bytes:
    """Drive a transfer until something of it arrives at the other end."""
    for _ in range(200):
        transfer.advance(0.1)
        with contextlib.suppress(TimeoutError):
            return sock.recv(1000)
    return b""


def test_a_server_without_tls_is_an_error(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(10)
        client = make_client(f"https://127.0.0.1:{plain.getsockname()[1]}", max_attempts=2)
        transfer = client.engine.start_get(GetRequest("bucket", "key"))
        with contextlib.closing(plain.accept()[0]) as sock:
            sock.settimeout(0.1)
            assert begun_on(transfer, sock)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            with within(15), pytest.raises(TLSError, match="TLS failed") as caught:
                transfer.result()
    assert not caught.value.is_retryable
    assert "https://" in str(caught.value)


def test_a_server_that_hangs_up_in_the_handshake_is_an_error(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        client = make_client(f"https://127.0.0.1:{listener.getsockname()[1]}", max_attempts=1)
        transfer = client.engine.start_get(GetRequest("bucket", "key"))
        transfer.advance(0.1)
        listener.accept()[0].close()
        with within(15), pytest.raises(S3ConnectionError):
            transfer.result()


def test_a_handshake_that_stalls_is_a_timeout(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = make_client(f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.3, max_attempts=2)
        with within(15), pytest.raises(S3TimeoutError, match="no connection"):
            get(client)


@pytest.mark.parametrize("at", [0, 1, 10_000, 500_000, len(DATA) - 1])
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_body_that_breaks_under_tls_is_resumed_where_it_broke(
    make_client: MakeClient, tmp_path: Path, at: int, *, is_reset: bool
) -> None:
    def cut(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": '"one"'}, len(DATA)) + DATA[:at])
        wire.stall(0.1)
        wire.reset() if is_reset else wire.close()  # without close_notify

    with ScriptedServer(in_turn(cut, object_answer(DATA)), tls=tmp_path) as server:
        assert get(make_client(server.endpoint, ca_bundle=bundle_of(server))) == DATA
        assert server.requests[1].range == ((at, len(DATA)) if at else None)
        assert server.requests[1].headers["if-match"] == '"one"'


def test_a_body_without_length_cut_under_tls_is_no_body(make_client: MakeClient, tmp_path: Path) -> None:
    # The attack that close_notify is for: where the close is the end, a cut must not pass for one.
    def cut(request: Request, wire: Wire) -> None:
        wire.read_body()
        wire.send(wire.head(200) + b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        wire.close()

    with ScriptedServer(cut, tls=tmp_path) as server:
        client = make_client(server.endpoint, ca_bundle=bundle_of(server), max_attempts=2)
        with within(15), pytest.raises(S3ConnectionError):
            list(client.list_objects("bucket"))


@pytest.mark.parametrize("size", [0, 1, 16_384, 5_000_000])
def test_uploads_under_tls_arrive_whole(make_client: MakeClient, tmp_path: Path, size: int) -> None:
    body = random.Random(size).randbytes(size)
    with ScriptedServer(accept, tls=tmp_path) as server:
        client = make_client(server.endpoint, ca_bundle=bundle_of(server))
        assert client.put("bucket", "key", body).etag == '"new"'
        assert server.requests[0].body == body


def test_large_reads_under_tls_are_right_with_several_threads(make_client: MakeClient, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(70_000_000)
    with ScriptedServer(object_answer(data), tls=tmp_path) as server:
        client = make_client(
            server.endpoint,
            ca_bundle=bundle_of(server),
            part_size=5 * 1024**2,
            operation_timeout=60.0,
            read_timeout=20.0,
        )
        assert client.engine.helper_threads(len(data)) >= 0
        assert client.read("bucket", "key") == data
        assert client.read("bucket", "key") == data


# Proxies


@pytest.fixture
def proxy_variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def name(**variables: str) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)

    return name


def test_plain_requests_go_to_the_proxy_in_absolute_form(
    make_client: MakeClient, proxy_variables: Callable[..., None]
) -> None:
    with ScriptedServer(object_answer(DATA)) as proxy:
        proxy_variables(http_proxy=proxy.endpoint)
        assert get(make_client("http://store.example:9000")) == DATA
        (request,) = proxy.requests
    assert request.target == "http://store.example:9000/bucket/key"
    assert request.headers["host"] == "store.example:9000"
    assert "proxy-authorization" not in request.headers


def test_the_proxy_is_given_its_own_credentials(make_client: MakeClient, proxy_variables: Callable[..., None]) -> None:
    with ScriptedServer(object_answer(DATA)) as proxy:
        proxy_variables(http_proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        client = make_client("http://store.example")
        assert get(client) == DATA
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
        assert "dXNlcjpwQHNz" not in repr(client.engine)


def test_the_proxy_is_bypassed_where_the_environment_says_so(
    make_client: MakeClient, proxy_variables: Callable[..., None]
) -> None:
    with ScriptedServer(object_answer(DATA)) as server, ScriptedServer(object_answer(b"proxy's")) as proxy:
        proxy_variables(http_proxy=proxy.endpoint, no_proxy="other.example,127.0.0.1")
        assert get(make_client(server.endpoint)) == DATA
        assert proxy.requests == []


def test_tls_goes_through_a_tunnel(
    make_client: MakeClient, proxy_variables: Callable[..., None], tmp_path: Path
) -> None:
    with (
        ScriptedServer(object_answer(DATA), tls=tmp_path) as server,
        ScriptedServer(object_answer(b"proxy's"), tunnels=True) as proxy,
    ):
        proxy_variables(HTTPS_PROXY=f"http://user:pass@127.0.0.1:{proxy.port}")
        client = make_client(server.endpoint, ca_bundle=bundle_of(server))
        for _ in range(2):
            assert get(client) == DATA
        (request,) = proxy.requests
        assert (request.method, request.target) == ("CONNECT", f"127.0.0.1:{server.port}")
        assert request.headers["host"] == request.target
        assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert [seen.target for seen in server.requests] == ["/bucket/key"] * 2
        assert not any("proxy-authorization" in seen.headers for seen in server.requests)
        client.close()


@pytest.mark.parametrize(
    ("answer", "kind", "sent"),
    [
        (lambda request, wire: wire.respond(407, b"no"), S3ConnectionError, 1),
        (lambda request, wire: wire.respond(403, b"no"), S3ConnectionError, 1),
        (lambda request, wire: wire.respond(503, b"no"), S3ConnectionError, 3),
        (lambda request, wire: wire.send(b"garbage\r\n\r\n"), ProtocolError, 3),
        (lambda request, wire: wire.send(b"x" * 100_000), ProtocolError, 3),
        (lambda request, wire: wire.close(), S3ConnectionError, 3),
        (lambda request, wire: wire.stall(), S3TimeoutError, 3),
    ],
    ids=["credentials", "refused", "overloaded", "garbage", "endless", "hangs up", "stalls"],
)
def test_a_proxy_that_gives_no_tunnel_is_an_error(
    make_client: MakeClient,
    proxy_variables: Callable[..., None],
    answer: Answer,
    kind: type[S3Exception],
    sent: int,
) -> None:
    with ScriptedServer(answer) as proxy:
        proxy_variables(https_proxy=proxy.endpoint)
        # What the proxy answers is not to be late, and what it does not answer not to be waited for long.
        timeout = 0.5 if kind is S3TimeoutError else 20.0
        client = make_client("https://store.example", max_attempts=3, connect_timeout=timeout)
        with within(15), pytest.raises(kind) as caught:
            get(client)
        wait_for(lambda: len(proxy.requests) >= sent)  # as the last may have been left before it was read
        assert len(proxy.requests) == sent
    assert caught.value.remedy


def test_a_proxy_that_is_not_there_is_an_error(make_client: MakeClient, proxy_variables: Callable[..., None]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        proxy_variables(http_proxy=f"http://127.0.0.1:{taken.getsockname()[1]}")
        client = make_client("http://store.example", max_attempts=2)
        with within(15), pytest.raises(S3ConnectionError):
            get(client)


def test_an_address_that_is_no_proxy_is_an_error(make_client: MakeClient, proxy_variables: Callable[..., None]) -> None:
    proxy_variables(http_proxy="socks5://127.0.0.1:1080")
    with pytest.raises(ValueError, match="proxies"):
        get(make_client("http://store.example"))


# Address families


@needs_ipv6
@pytest.mark.parametrize("is_tls", [False, True])
def test_ipv6_is_spoken(make_client: MakeClient, tmp_path: Path, *, is_tls: bool) -> None:
    with ScriptedServer(object_answer(DATA), host="::1", tls=tmp_path if is_tls else None) as server:
        client = make_client(server.endpoint, ca_bundle=bundle_of(server) if is_tls else None)
        assert get(client) == DATA
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``store.example`` resolves to; the first is tried first."""

    def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host != "store.example":
            return system(host, port, *arguments, **options)
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    found: list[str] = []
    system = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


def keep_order(client: S3Client) -> None:
    client.engine._process.resolver._shuffle = lambda _: None  # type: ignore[attr-defined]  # the direct engine's


@needs_more_addresses
def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers(
    make_client: MakeClient, addresses: list[str]
) -> None:
    addresses += ["127.0.0.3", "127.0.0.2", "127.0.0.1"]
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(f"http://store.example:{server.port}", max_attempts=1)
        keep_order(client)
        for _ in range(3):
            with within(15):
                assert get(client) == DATA
            client.close()
        assert server.connections == 3
        assert server.requests[0].headers["host"] == f"store.example:{server.port}"


@needs_more_addresses
def test_an_address_that_does_not_answer_is_left_for_the_next(make_client: MakeClient, addresses: list[str]) -> None:
    addresses += ["127.0.0.2", "127.0.0.1"]
    with ScriptedServer(object_answer(DATA)) as server, contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.2", server.port))
        silent.listen(0)
        for _ in range(4):  # fill its queue: further connections get no answer at all
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        client = make_client(f"http://store.example:{server.port}", connect_timeout=4.0, max_attempts=1)
        keep_order(client)
        with within(15):
            assert get(client) == DATA
