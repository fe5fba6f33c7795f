"""The boto3 engine beside the laws: its options on the wire, and what goes wrong there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s3torch.client import (
    ChecksumError,
    CredentialsError,
    GetRequest,
    ObjectChangedError,
    ProtocolError,
    PutOptions,
    RegionError,
    S3Client,
    S3ClientConfig,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
    ThrottledError,
    TLSError,
)
from s3torch.client._boto3_errors import translate
from s3torch.client.boto3_engine import Boto3Engine
from s3torch.client.protocols import EngineContext
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

DATA = b"0123456789" * 1000
ETAG = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'


class Script:
    """A server that answers each request with the next of its answers, and keeps what it was asked."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                head = b""
                # The beginning of TLS has no such end, and is answered all the same.
                while b"\r\n\r\n" not in head and not head.startswith(b"\x16\x03"):
                    received = connection.recv(65536)
                    if not received:
                        break
                    head += received
                self.asked.append(head.decode("latin-1"))
                answer = self.answers.pop(0) if self.answers else None
                if answer is None:
                    self._ended.wait(60)  # never answers
                else:
                    connection.sendall(answer)


def answer(status: str = "200 OK", body: bytes = DATA, *, length: int | None = None, **headers: str) -> bytes:
    fields = {
        "Content-Length": str(len(body) if length is None else length),
        "ETag": ETAG,
        "Last-Modified": "Fri, 21 Dec 2012 00:00:00 GMT",
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def refusal(status: str, code: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


@pytest.fixture
def play() -> Iterator[Callable[..., Script]]:
    scripts: list[Script] = []

    def play(*answers: bytes | None) -> Script:
        scripts.append(Script(list(answers)))
        return scripts[-1]

    yield play
    for script in scripts:
        script.close()


def connect(endpoint: str, **options: Any) -> S3Client:
    config = S3ClientConfig(**{"engine": "boto3", "force_path_style": True, "max_attempts": 1, **options})
    return S3Client("us-east-1", endpoint=endpoint, s3client_config=config)


def get(client: S3Client, request: GetRequest | None = None) -> bytes:
    return bytes(client.engine.start_get(request or GetRequest("b", "k")).result().data)


def test_a_broken_body_is_asked_for_again_and_bound_to_its_etag(play: Callable[..., Script]) -> None:
    script = play(answer(body=DATA[:4000], length=len(DATA)), answer())
    request = GetRequest("b", "k")
    with connect(script.endpoint, max_attempts=3) as client:
        result = client.engine.start_get(request).result()
    assert result.data == DATA
    assert result.request == request  # as it was asked: one that names an ETag is kept in another way by a cache
    assert "if-match" not in script.asked[0].lower()
    assert f"if-match: {ETAG}" in script.asked[1].lower()


def test_a_body_that_always_breaks_is_an_error(play: Callable[..., Script]) -> None:
    script = play(*[answer(body=DATA[:4000], length=len(DATA))] * 3)
    with connect(script.endpoint, max_attempts=2) as client, pytest.raises(S3ConnectionError):
        get(client)
    assert len(script.asked) == 2


def test_an_object_replaced_between_attempts_is_an_error(play: Callable[..., Script]) -> None:
    script = play(answer(body=DATA[:4000], length=len(DATA)), refusal("412 Precondition Failed", "PreconditionFailed"))
    with connect(script.endpoint, max_attempts=3) as client, pytest.raises(ObjectChangedError):
        get(client)


@pytest.mark.parametrize(
    "wrong",
    [
        answer(),  # the whole object in answer to a range
        answer("206 Partial Content", DATA[:10], Content_Range="bytes 5-14/10000"),
        answer("206 Partial Content", DATA[:10], Content_Range="bytes 0-10/10000"),
        answer("206 Partial Content", DATA[:10], Content_Range="bytes 0-9/*"),
        answer("206 Partial Content", DATA[:10], Content_Range="nonsense"),
    ],
)
def test_another_range_than_asked_for_is_an_error(play: Callable[..., Script], wrong: bytes) -> None:
    with connect(play(wrong).endpoint) as client, pytest.raises(ProtocolError):
        get(client, GetRequest("b", "k", 0, 11))


def test_another_etag_than_asked_for_is_an_error(play: Callable[..., Script]) -> None:
    # From a store that does not look at If-Match.
    with connect(play(answer()).endpoint) as client, pytest.raises(ObjectChangedError):
        get(client, GetRequest("b", "k", etag='"other"'))


def test_a_wrong_checksum_is_an_error(play: Callable[..., Script]) -> None:
    script = play(answer(x_amz_checksum_crc32="AAAAAA=="), answer(x_amz_checksum_crc32="AAAAAA=="))
    with connect(script.endpoint) as client, pytest.raises(ChecksumError):
        get(client)
    with connect(script.endpoint, verify_checksums=False) as client:
        assert get(client) == DATA
    assert "x-amz-checksum-mode: enabled" in script.asked[0].lower()
    assert "x-amz-checksum-mode" not in script.asked[1].lower()


def test_throttling_is_tried_again_and_then_told(play: Callable[..., Script]) -> None:
    slow = refusal("503 Slow Down", "SlowDown")
    with connect(play(slow, answer()).endpoint, max_attempts=2) as client:
        assert get(client) == DATA
    with connect(play(slow, slow).endpoint, max_attempts=1) as client, pytest.raises(ThrottledError) as caught:
        get(client)
    assert caught.value.is_retryable


def test_silence_is_a_timeout_in_bounded_time(play: Callable[..., Script]) -> None:
    began = time.monotonic()
    with connect(play(None).endpoint, read_timeout=0.5) as client, pytest.raises(S3TimeoutError) as caught:
        get(client)
    assert time.monotonic() - began < 20
    assert isinstance(caught.value, TimeoutError)


def test_a_slow_drip_ends_in_bounded_time() -> None:
    def drip(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"ETag": ETAG, "Last-Modified": "Fri, 21 Dec 2012 00:00:00 GMT"}, len(DATA)))
        for start in range(0, len(DATA), 100):
            wire.send(DATA[start : start + 100])
            wire.stall(0.5)

    began = time.monotonic()
    with (
        ScriptedServer(drip) as server,
        connect(server.endpoint, operation_timeout=0.5, max_attempts=3) as client,
        pytest.raises(S3TimeoutError) as caught,
    ):
        get(client)
    assert time.monotonic() - began < 20
    assert (caught.value.operation, caught.value.key) == ("GetObject", "k")
    assert "operation_timeout" in str(caught.value)


def test_a_body_longer_than_its_range_is_a_protocol_error(play: Callable[..., Script]) -> None:
    # In chunks, so that no length holds it.
    chunks = b"b\r\n" + DATA[:11] + b"\r\n0\r\n\r\n"
    head = answer("206 Partial Content", b"", Content_Range="bytes 0-9/10000", Transfer_Encoding="chunked")
    script = play(head.replace(b"Content-Length: 0\r\n", b"") + chunks)
    with connect(script.endpoint) as client, pytest.raises(ProtocolError):
        get(client, GetRequest("b", "k", 0, 10))


def test_plain_text_in_place_of_tls_is_a_tls_error(play: Callable[..., Script]) -> None:
    endpoint = play(answer()).endpoint.replace("http:", "https:")
    with connect(endpoint, connect_timeout=20.0) as client, pytest.raises(TLSError):
        get(client)


def test_a_region_elsewhere_is_a_region_error(play: Callable[..., Script]) -> None:
    script = play(*[refusal("400 Bad Request", "IllegalLocationConstraintException")] * 4)
    with connect(script.endpoint) as client, pytest.raises(RegionError):
        get(client)


def test_nonsense_in_place_of_xml_is_an_error(play: Callable[..., Script]) -> None:
    with connect(play(answer(body=b"<html>hello")).endpoint) as client, pytest.raises(S3Exception):
        next(client.list_objects("b"))


def test_requests_carry_the_options(play: Callable[..., Script]) -> None:
    script = play(answer(), answer())
    with connect(script.endpoint, requester_pays=True) as client:
        get(client)
    with connect(script.endpoint, unsigned=True) as client:
        get(client)
    paid, unsigned = (text.lower() for text in script.asked)
    assert "get /b/k http/1.1" in paid
    assert "user-agent: s3torch/" in paid
    assert "authorization: aws4-hmac-sha256" in paid
    assert "x-amz-request-payer: requester" in paid
    assert "authorization:" not in unsigned


def test_uploads_carry_their_options(play: Callable[..., Script]) -> None:
    script = play(answer(body=b""), answer(body=b""))
    options = PutOptions(
        storage_class="STANDARD_IA",
        content_type="text/x",
        metadata={"a": "b"},
        tags={"t": "1 2"},
        server_side_encryption="aws:kms",
        kms_key_id="key-id",
        acl="private",
        if_none_match=True,
    )
    with connect(script.endpoint, checksum="crc32") as client:
        client.put("b", "k", b"data", options=options)
    with connect(script.endpoint, checksum="none") as client:
        client.put("b", "k", b"data")
    full, bare = (text.lower() for text in script.asked)
    for line in (
        "x-amz-storage-class: standard_ia",
        "content-type: text/x",
        "x-amz-meta-a: b",
        "x-amz-tagging: t=1+2",
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id: key-id",
        "x-amz-acl: private",
        "if-none-match: *",
    ):
        assert line in full
    assert "crc32" in full
    assert "crc" not in bare


def test_a_profile_that_is_not_there_is_a_credentials_error() -> None:
    with connect("http://127.0.0.1:9", profile="no-such-profile") as client, pytest.raises(CredentialsError) as caught:
        get(client)
    assert caught.value.remedy


def test_a_bucket_name_that_cannot_be_is_a_value_error() -> None:
    with connect("http://127.0.0.1:9") as client, pytest.raises(ValueError, match="bucket name"):
        get(client, GetRequest("not a bucket!", "k"))


def test_without_any_region_amazons_store_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    client = S3Client(s3client_config=S3ClientConfig(engine="boto3"))
    with pytest.raises(RegionError):
        _ = client.region
    with pytest.raises(RegionError):
        get(client)
    assert S3Client(endpoint="http://x", s3client_config=S3ClientConfig(engine="boto3")).region == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert S3Client(s3client_config=S3ClientConfig(engine="boto3")).region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert S3Client(s3client_config=S3ClientConfig(engine="boto3")).region == "eu-west-2"


def test_attempts_come_from_option_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def attempts(**options: Any) -> int:
        engine = Boto3Engine(EngineContext("us-east-1", "http://x", "ua", S3ClientConfig(**options)))
        return int(engine._client().meta.config.retries["total_max_attempts"])

    assert attempts() == 10
    assert attempts(max_attempts=4) == 4
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    assert attempts() == 3
    assert attempts(max_attempts=4) == 4


def test_helpers_follow_the_size() -> None:
    engine = Boto3Engine(EngineContext(None, None, "", S3ClientConfig(max_connections=4)))
    assert [engine.helper_threads(size << 20) for size in (0, 1, 8, 16, 1000)] == [0, 0, 0, 1, 3]
    engine = Boto3Engine(EngineContext(None, None, "", S3ClientConfig(max_connections=100)))
    assert engine.helper_threads(10**10) == 7


def test_an_idle_engine_has_done_nothing() -> None:
    engine = Boto3Engine(EngineContext(None, None, "", S3ClientConfig(profile="no-such-profile")))
    engine.close()
    assert "idle" in repr(engine)


def test_close_ends_the_connections_and_the_next_request_opens_new_ones(
    moto_server: MotoServer, s3_bucket: str
) -> None:
    with connect(moto_server.endpoint) as client:
        client.put(s3_bucket, "k", b"data")
        assert "open" in repr(client.engine)
        client.close()
        assert "idle" in repr(client.engine)
        assert client.read(s3_bucket, "k") == b"data"


def test_another_process_id_means_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Boto3Engine(EngineContext("us-east-1", "http://x", "ua", S3ClientConfig()))
    before = engine._client()
    assert engine._client() is before
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert engine._client() is not before


@pytest.mark.parametrize("checksum", ["crc32", "crc32c", "crc64nvme"])
def test_part_checksums_reach_completion(moto_server: MotoServer, s3_bucket: str, checksum: Any) -> None:
    with connect(moto_server.endpoint, checksum=checksum) as client:
        if checksum != "crc32":
            pytest.importorskip("awscrt")
        engine = client.engine
        upload = engine.create_multipart(s3_bucket, "k", PutOptions())
        part = engine.start_part(s3_bucket, "k", upload, 1, [memoryview(DATA)]).result()
        assert list(part.checksums) == [checksum]
        engine.complete_multipart(s3_bucket, "k", upload, [part], PutOptions())
        assert client.read(s3_bucket, "k") == DATA


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("NoCredentialsError", {}, CredentialsError),
        ("PartialCredentialsError", {"provider": "env", "cred_var": "x"}, CredentialsError),
        ("TokenRetrievalError", {"provider": "sso", "error_msg": "x"}, CredentialsError),
        ("UnauthorizedSSOTokenError", {}, CredentialsError),
        ("CredentialRetrievalError", {"provider": "process", "error_msg": "x"}, CredentialsError),
        ("ProfileNotFound", {"profile": "p"}, CredentialsError),
        ("NoRegionError", {}, RegionError),
        ("SSLError", {"endpoint_url": "u", "error": "e"}, TLSError),
        ("ConnectTimeoutError", {"endpoint_url": "u"}, S3TimeoutError),
        ("ReadTimeoutError", {"endpoint_url": "u"}, S3TimeoutError),
        ("EndpointConnectionError", {"endpoint_url": "u"}, S3ConnectionError),
        ("ConnectionClosedError", {"endpoint_url": "u"}, S3ConnectionError),
        ("ProxyConnectionError", {"proxy_url": "http://user:hunter2@proxy"}, S3ConnectionError),
        ("IncompleteReadError", {"actual_bytes": 1, "expected_bytes": 2}, S3ConnectionError),
        ("ResponseStreamingError", {"error": "e"}, S3ConnectionError),
        ("FlexibleChecksumError", {"error_msg": "e"}, ChecksumError),
        ("ParamValidationError", {"report": "r"}, ValueError),
        ("UnknownServiceError", {"service_name": "s", "known_service_names": "k"}, S3Exception),
    ],
)
def test_botocores_errors_become_ours(name: str, arguments: dict[str, str], expected: type[Exception]) -> None:
    import botocore.exceptions

    error = translate(getattr(botocore.exceptions, name)(**arguments), "GetObject", "b", "k", "http://endpoint")
    assert type(error) is expected
    assert "hunter2" not in str(error)
    if isinstance(error, S3Exception):
        assert error.remedy
        assert pickle.loads(pickle.dumps(error)).remedy == error.remedy


def test_a_head_that_is_cut_off_is_asked_for_again() -> None:
    asked = []

    def answer(request: Request, wire: Wire) -> None:
        asked.append(request)
        if len(asked) == 2:
            wire.respond(200, b"x" * 700, {"ETag": '"one"'})
        else:
            wire.send(b'HTTP/1.1 200 OK\r\nETag: "one"\r\n')
            wire.close()

    with ScriptedServer(answer) as server, connect(server.endpoint, max_attempts=3) as client:
        assert client.head_object("bucket", "k").size == 700
        with pytest.raises(ProtocolError, match="length"):
            client.head_object("bucket", "k")
