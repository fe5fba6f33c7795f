"""No key, token or signature in a log, a repr, a pickle or an error, whatever goes wrong."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from s3torch.client import GetRequest, S3Client, S3Exception
from s3torch.harness.servers.scripted import Answer, Request, ScriptedServer, Wire, in_turn, object_answer

MakeClient = Callable[..., S3Client]
DATA = b"d" * 10_000
ACCESS_KEY = "AKIDSECRETACCESSKEY"
SECRET_KEY = "wJalr/SECRET/KEY"
TOKEN = "SECRET-SESSION-TOKEN"
PROXY_PASSWORD = "SECRET-PROXY-PASSWORD"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, isolated: None) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


def revealed(text: str) -> list[str]:
    """What a text gives away."""
    parts = (ACCESS_KEY, SECRET_KEY, TOKEN, PROXY_PASSWORD, "Signature=", "Credential=")
    return [part for part in parts if part in text]


def state_of(client: S3Client) -> str:
    """Everything that printing a client and what belongs to it shows."""
    engine = client.engine
    shown = [repr(client), str(client), repr(engine), repr(vars(engine)), repr(vars(client))]
    process = engine._process  # type: ignore[attr-defined]  # the direct engine's
    shown += [repr(process), repr(vars(process)), repr(vars(process.identity)), repr(engine.loop())]  # type: ignore[attr-defined]  # likewise
    return "\n".join(shown)


def test_nothing_shows_in_reprs_and_pickles(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        client.read("bucket", "key")
        assert revealed(server.requests[0].headers["authorization"]) != [], "the server has seen a signature"
        transfer = client.engine.start_get(GetRequest("bucket", "key"))
        assert revealed(state_of(client) + repr(transfer)) == []
        transfer.result()
        assert revealed(pickle.dumps(client).decode("latin-1")) == []
        assert revealed(repr(copy.copy(client))) == []


def refuse(status: int, code: str) -> Answer:
    """Answer as a store that quotes what it was sent, as S3 does for some errors."""

    def answer(request: Request, wire: Wire) -> None:
        quoted = request.headers["authorization"]
        body = (
            f"<Error><Code>{code}</Code><Message>{quoted}</Message><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId>"
            f"<StringToSign>{TOKEN}</StringToSign><CanonicalRequest>{TOKEN}</CanonicalRequest></Error>"
        )
        wire.respond(status, body.encode())

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        refuse(403, "SignatureDoesNotMatch"),
        refuse(403, "InvalidAccessKeyId"),
        refuse(400, "ExpiredToken"),
        refuse(403, "RequestTimeTooSkewed"),
        lambda request, wire: wire.close(),
        lambda request, wire: wire.send(b"garbage\r\n\r\n"),
        lambda request, wire: wire.respond(500),
        lambda request, wire: wire.respond(301),
        object_answer(DATA, sends=[10, 10, 10, 10]),
    ],
    ids=["signature", "access key", "expired", "skewed", "closed", "garbage", "failing", "moved", "cut"],
)
def test_nothing_shows_in_errors_and_logs(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    with caplog.at_level(logging.DEBUG), ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=2)
        with pytest.raises(S3Exception) as caught:
            client.engine.start_get(GetRequest("bucket", "key")).result()
        assert len(server.requests) >= 1
    error = caught.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    shown += repr(error) + repr(vars(error)) + pickle.dumps(error).decode("latin-1")
    assert revealed(shown) == []
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("botocore")]
    assert revealed("\n".join(own)) == []


def test_logs_of_the_sdk_show_nothing_either(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    # Addresses are named by presigning a URL: with keys of no value, as botocore logs what it signs.
    with caplog.at_level(logging.DEBUG), ScriptedServer(object_answer(DATA)) as server:
        assert make_client(server.endpoint).read("bucket", "key") == DATA
    everything = "\n".join(record.getMessage() for record in caplog.records)
    assert [part for part in revealed(everything) if part in (ACCESS_KEY, SECRET_KEY, TOKEN)] == []


def test_nothing_of_the_proxys_shows(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(in_turn(object_answer(DATA), lambda request, wire: wire.respond(407))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:{PROXY_PASSWORD}@127.0.0.1:{proxy.port}")
        client = make_client("http://store.example", max_attempts=1)
        assert client.read("bucket", "key") == DATA
        assert revealed(state_of(client)) == []
        with pytest.raises(S3Exception) as caught:
            client.head_object("bucket", "key")
        error = caught.value
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(vars(error))
        assert revealed(shown) == []


def test_nothing_of_a_wrong_proxy_address_shows(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (f"socks5://user:{PROXY_PASSWORD}@host:1", f"http://user:{PROXY_PASSWORD}@host:port"):
        monkeypatch.setenv("http_proxy", url)
        with pytest.raises(ValueError) as caught:
            make_client("http://store.example").read("bucket", "key")
        error = caught.value
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        assert revealed(shown) == []


def test_an_endpoint_with_a_user_is_refused_unseen(make_client: MakeClient) -> None:
    with pytest.raises(ValueError) as caught:
        make_client(f"http://user:{PROXY_PASSWORD}@host").read("bucket", "key")
    assert revealed(str(caught.value)) == []
