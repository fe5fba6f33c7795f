"""Answers that are errors: mended where they say how, retried where that may help, and else one clear error."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from s3torch.client import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    GetRequest,
    InvalidRangeError,
    ObjectNotFoundError,
    PartResult,
    PreconditionFailedError,
    ProtocolError,
    PutOptions,
    RegionError,
    S3Client,
    S3Exception,
    S3TimeoutError,
    ServerError,
    ThrottledError,
)
from s3torch.harness.servers.scripted import Answer, Request, ScriptedServer, Wire, in_turn, object_answer

MakeClient = Callable[..., S3Client]
DATA = b"the object's bytes" * 1000


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer; the figures leave room for a busy machine."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def error_answer(status: int, code: str = "", *, headers: dict[str, str] | None = None, **fields: str) -> Answer:
    """Answer as S3 does: the code and further fields in a document, the request's id in a header."""
    inner = "".join(
        f"<{name}>{value}</{name}>" for name, value in {"Code": code, "Message": "as it puts it", **fields}.items()
    )
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode() if code else b""
    return lambda request, wire: wire.respond(status, body, {"x-amz-request-id": "REQUEST-ID", **(headers or {})})


def get(client: S3Client) -> bytes:
    return bytes(client.engine.start_get(GetRequest("bucket", "key")).result().data)


def scope_of(request: Request) -> list[str]:
    """Access key, date, region, service and terminator of a signed request."""
    return request.headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")


# Errors that last


@pytest.mark.parametrize(
    ("status", "code", "kind", "parent"),
    [
        (404, "NoSuchKey", ObjectNotFoundError, FileNotFoundError),
        (404, "NoSuchBucket", BucketNotFoundError, FileNotFoundError),
        (403, "AccessDenied", AccessDeniedError, PermissionError),
        (403, "InvalidAccessKeyId", CredentialsError, PermissionError),
        (403, "SignatureDoesNotMatch", CredentialsError, PermissionError),
        (416, "InvalidRange", InvalidRangeError, S3Exception),
        (412, "PreconditionFailed", PreconditionFailedError, S3Exception),
        (400, "KeyTooLongError", S3Exception, S3Exception),
        (301, "PermanentRedirect", RegionError, S3Exception),
    ],
)
def test_errors_that_last_are_raised_at_once_and_say_everything(
    make_client: MakeClient, status: int, code: str, kind: type[S3Exception], parent: type[Exception]
) -> None:
    with ScriptedServer(error_answer(status, code)) as server:
        with within(15), pytest.raises(kind) as caught:
            get(make_client(server.endpoint))
        assert len(server.requests) == 1
    error = caught.value
    assert isinstance(error, parent)
    assert (error.status, error.code, error.request_id) == (status, code, "REQUEST-ID")
    assert (error.operation, error.bucket, error.key) == ("GetObject", "bucket", "key")
    assert error.remedy
    for part in ("s3://bucket/key", code, "REQUEST-ID", str(status)):
        assert part in str(error)


def test_answers_to_head_are_judged_by_their_status(make_client: MakeClient) -> None:
    for status, kind in ((404, ObjectNotFoundError), (403, AccessDeniedError), (400, S3Exception)):
        with ScriptedServer(error_answer(status)) as server, within(15), pytest.raises(kind):
            make_client(server.endpoint).head_object("bucket", "key")


@pytest.mark.parametrize("body", [b"", b"<html>no such page</html>", b"<Error><Code>", b"\xff\xfe", b"{}"])
def test_errors_without_a_document_are_judged_by_their_status(make_client: MakeClient, body: bytes) -> None:
    with ScriptedServer(lambda request, wire: wire.respond(404, body)) as server:
        client = make_client(server.endpoint)
        with within(15), pytest.raises(ObjectNotFoundError):
            get(client)


# Errors that pass


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (502, ""), (503, "SlowDown"), (400, "RequestTimeout")]
)
def test_an_error_that_passes_is_retried(make_client: MakeClient, status: int, code: str) -> None:
    with ScriptedServer(in_turn(error_answer(status, code), object_answer(DATA))) as server:
        with within(15):
            assert get(make_client(server.endpoint)) == DATA
        assert len(server.requests) == 2


def test_a_store_that_fails_for_ever_is_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(500, "InternalError")) as server:
        with within(15), pytest.raises(ServerError, match="after 4 attempts") as caught:
            get(make_client(server.endpoint, max_attempts=4))
        assert len(server.requests) == 4
    assert caught.value.is_retryable


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (503, ""), (429, "TooManyRequests")])
def test_a_store_that_throttles_for_ever_is_an_error(make_client: MakeClient, status: int, code: str) -> None:
    with ScriptedServer(error_answer(status, code)) as server:
        with within(15), pytest.raises(ThrottledError, match="after 3 attempts"):
            get(make_client(server.endpoint, max_attempts=3))
        assert len(server.requests) == 3


def test_the_store_says_how_long_to_wait(make_client: MakeClient) -> None:
    times: list[float] = []
    store = in_turn(error_answer(503, "SlowDown", headers={"Retry-After": "1"}), object_answer(DATA))

    def answer(request: Request, wire: Wire) -> None:
        times.append(time.monotonic())
        store(request, wire)

    with ScriptedServer(answer) as server, within(15):
        assert get(make_client(server.endpoint)) == DATA
    assert times[1] - times[0] >= 0.95


@pytest.mark.parametrize("value", ["soon", "-1", "1e9", "Fri, 31 Dec 1999 23:59:59 GMT", "", "9" * 400])
def test_a_wait_that_cannot_be_read_is_none(make_client: MakeClient, value: str) -> None:
    script = in_turn(error_answer(500, "InternalError", headers={"Retry-After": value}), object_answer(DATA))
    with ScriptedServer(script) as server, within(15):
        client = make_client(server.endpoint, operation_timeout=15.0)
        if value.isdigit():  # a wait beyond the deadline is not begun
            with pytest.raises(ServerError):
                get(client)
        else:
            assert get(client) == DATA


def test_the_deadline_of_the_whole_ends_retries(make_client: MakeClient) -> None:
    # It may fall into a pause as well as into an answer that is on its way.
    ended = pytest.raises((ThrottledError, S3TimeoutError))
    with ScriptedServer(error_answer(503, "SlowDown")) as server, within(15), ended as caught:
        get(make_client(server.endpoint, max_attempts=100, operation_timeout=1.0))
    if isinstance(caught.value, S3TimeoutError):
        assert isinstance(caught.value.__cause__, ThrottledError)


def test_what_ran_out_of_time_says_what_came_before(make_client: MakeClient) -> None:
    answers = in_turn(error_answer(500, "InternalError"), lambda _, wire: wire.stall())
    with ScriptedServer(answers) as server, within(15), pytest.raises(S3TimeoutError, match="2 attempts") as caught:
        get(make_client(server.endpoint, operation_timeout=2.0))
    cause = caught.value.__cause__
    assert isinstance(cause, ServerError)
    assert cause.__traceback__ is None


def test_a_failing_store_is_not_stormed(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(500, "InternalError")) as server:
        client = make_client(server.endpoint, max_attempts=10)
        client.engine.budget.take(495)  # type: ignore[attr-defined]  # the direct engine's
        with within(15), pytest.raises(ServerError):
            get(client)
        assert len(server.requests) == 2, "what is left pays for one retry"


# Regions, redirects, clocks


ELSEWHERE = {"x-amz-bucket-region": "eu-west-3"}


@pytest.mark.parametrize(
    "complaint",
    [
        error_answer(301, "PermanentRedirect", headers=ELSEWHERE),
        error_answer(400, "AuthorizationHeaderMalformed", Region="eu-west-3"),
    ],
)
def test_a_bucket_in_another_region_is_found(make_client: MakeClient, complaint: Answer) -> None:
    with ScriptedServer(in_turn(complaint, object_answer(DATA))) as server:
        client = make_client(server.endpoint, max_attempts=1)
        assert get(client) == DATA
        assert get(client) == DATA
        assert [scope_of(request)[2] for request in server.requests] == ["us-east-1", "eu-west-3", "eu-west-3"]


@pytest.mark.parametrize("status", [301, 400])
def test_a_bucket_in_another_region_is_found_by_a_head(make_client: MakeClient, status: int) -> None:
    with ScriptedServer(in_turn(error_answer(status, headers=ELSEWHERE), object_answer(DATA))) as server:
        assert make_client(server.endpoint, max_attempts=1).head_object("bucket", "key").size == len(DATA)
        assert [scope_of(request)[2] for request in server.requests] == ["us-east-1", "eu-west-3"]


def test_a_window_of_requests_finds_a_bucket_in_another_region(make_client: MakeClient) -> None:
    store, complaint = object_answer(DATA), error_answer(400, "AuthorizationHeaderMalformed", Region="eu-west-3")

    def answer(request: Request, wire: Wire) -> None:
        (store if scope_of(request)[2] == "eu-west-3" else complaint)(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=1)
        results = list(client.get_many([GetRequest("bucket", str(number)) for number in range(20)], window=8))
        assert [result.data for result in results] == [DATA] * 20
        assert 20 < len(server.requests) <= 28


def test_a_region_that_does_not_help_is_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(301, headers={"x-amz-bucket-region": "eu-west-3"})) as server:
        with within(15), pytest.raises(RegionError, match="region"):
            get(make_client(server.endpoint))
        assert len(server.requests) == 2


def test_a_temporary_redirect_is_followed(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as other:
        location = f"{other.endpoint}/bucket/key"
        with ScriptedServer(error_answer(307, "TemporaryRedirect", headers={"Location": location})) as server:
            assert get(make_client(server.endpoint, max_attempts=1)) == DATA
            assert len(server.requests) == 1
        (request,) = other.requests
        assert request.path == "/bucket/key"
        assert request.headers["host"] == other.endpoint.removeprefix("http://")


def test_an_upload_is_redirected_with_its_body(make_client: MakeClient) -> None:
    def accept(request: Request, wire: Wire) -> None:
        wire.read_body()
        wire.respond(200, b"", {"ETag": '"new"'})

    with ScriptedServer(accept) as other:
        redirect = error_answer(307, "TemporaryRedirect", headers={"Location": f"{other.endpoint}/bucket/key"})
        with ScriptedServer(redirect) as server:
            assert make_client(server.endpoint).put("bucket", "key", DATA).etag == '"new"'
        assert other.requests[0].body == DATA


@pytest.mark.parametrize("location", ["/elsewhere", "ftp://host/", "http://", "http://host:port/", "", "http://[::1/"])
def test_a_redirect_to_nowhere_is_an_error(make_client: MakeClient, location: str) -> None:
    with ScriptedServer(error_answer(307, "TemporaryRedirect", headers={"Location": location})) as server:
        with within(15), pytest.raises(S3Exception):
            get(make_client(server.endpoint))
        assert len(server.requests) <= 3


def test_redirects_in_a_circle_are_an_error(make_client: MakeClient) -> None:
    def redirect(request: Request, wire: Wire) -> None:
        wire.respond(307, b"", {"Location": f"http://{request.headers['host']}/bucket/key"})

    with ScriptedServer(redirect) as server:
        with within(15), pytest.raises(RegionError):
            get(make_client(server.endpoint))
        assert len(server.requests) <= 3


@pytest.mark.parametrize("hours", [-3, 5])
def test_a_wrong_clock_is_corrected(make_client: MakeClient, hours: int) -> None:
    now = datetime.now(timezone.utc) + timedelta(hours=hours)
    skewed = error_answer(403, "RequestTimeTooSkewed", headers={"Date": format_datetime(now, usegmt=True)})
    with ScriptedServer(in_turn(skewed, object_answer(DATA))) as server:
        client = make_client(server.endpoint, max_attempts=1)
        assert get(client) == DATA
        assert get(client) == DATA
        dates = [
            datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            for request in server.requests
        ]
    assert abs((dates[0] - datetime.now(timezone.utc)).total_seconds()) < 60
    assert all(abs((date - now).total_seconds()) < 60 for date in dates[1:])
    assert scope_of(server.requests[-1])[1] == dates[-1].strftime("%Y%m%d")


@pytest.mark.parametrize("date", [None, "yesterday", ""])
def test_a_clock_that_cannot_be_corrected_is_an_error(make_client: MakeClient, date: str | None) -> None:
    headers = {} if date is None else {"Date": date}
    with ScriptedServer(error_answer(403, "RequestTimeTooSkewed", headers=headers)) as server:
        client = make_client(server.endpoint)
        with within(15), pytest.raises(CredentialsError, match="clock") as caught:
            get(client)
    assert "clock" in (caught.value.remedy or "")


# Credentials


@pytest.fixture
def process_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile whose credentials come from a program: each run gives the next keys of a file."""
    script = tmp_path / "keys.py"
    script.write_text(
        "import json, pathlib\n"
        f"path = pathlib.Path({str(tmp_path / 'keys.json')!r})\n"
        "keys = json.loads(path.read_text())\n"
        "print(json.dumps({'Version': 1, **keys[0]}))\n"
        "path.write_text(json.dumps(keys[1:] or keys))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return tmp_path / "keys.json"


def keys(name: str, lifetime: timedelta = timedelta(hours=1)) -> dict[str, str]:
    expiry = datetime.now(timezone.utc) + lifetime
    return {
        "AccessKeyId": f"AKID{name}",
        "SecretAccessKey": f"secret-{name}",
        "SessionToken": f"token-{name}",
        "Expiration": expiry.isoformat(),
    }


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
def test_credentials_the_store_no_longer_takes_are_renewed(
    make_client: MakeClient, process_keys: Path, code: str
) -> None:
    process_keys.write_text(json.dumps([keys("OLD"), keys("NEW")]))
    store = object_answer(DATA)

    def answer(request: Request, wire: Wire) -> None:
        fits = request.headers["x-amz-security-token"] == "token-NEW"
        (store if fits else error_answer(400, code))(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=1)
        for _ in range(2):
            assert get(client) == DATA
        assert [scope_of(request)[0] for request in server.requests] == ["AKIDOLD", "AKIDNEW", "AKIDNEW"]


def test_a_window_of_requests_renews_credentials_once(make_client: MakeClient, process_keys: Path) -> None:
    process_keys.write_text(json.dumps([keys("OLD"), keys("NEW"), keys("TOO-NEW")]))
    store, complaint = object_answer(DATA), error_answer(400, "ExpiredToken")

    def answer(request: Request, wire: Wire) -> None:
        (store if scope_of(request)[0] == "AKIDNEW" else complaint)(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, max_attempts=1)
        results = list(client.get_many([GetRequest("bucket", str(number)) for number in range(20)], window=8))
        assert [result.data for result in results] == [DATA] * 20
        assert 20 < len(server.requests) <= 28


def test_errors_cost_no_connection(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(404, "NoSuchKey")) as server:
        client = make_client(server.endpoint)
        for _ in range(5):
            with pytest.raises(ObjectNotFoundError):
                get(client)
        assert server.connections == 1


def test_credentials_are_renewed_before_they_expire(make_client: MakeClient, process_keys: Path) -> None:
    process_keys.write_text(json.dumps([keys("OLD", timedelta(seconds=-1)), keys("NEW")]))
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        assert get(client) == DATA
        assert scope_of(server.requests[-1])[0] == "AKIDNEW"


def test_credentials_that_stay_refused_are_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(400, "ExpiredToken")) as server:
        with within(15), pytest.raises(CredentialsError, match="expired") as caught:
            get(make_client(server.endpoint))
        assert len(server.requests) == 1, "the same keys are not sent again"
    assert "sso login" in (caught.value.remedy or "")


def test_a_program_for_credentials_that_fails_is_an_error(make_client: MakeClient, process_keys: Path) -> None:
    process_keys.write_text("not json, with a secret-value in it")
    with ScriptedServer(object_answer(DATA)) as server:
        with within(15), pytest.raises(CredentialsError) as caught:
            get(make_client(server.endpoint))
        assert server.requests == []
    assert caught.value.remedy
    assert "secret-value" not in str(caught.value)


def test_no_credentials_are_an_error_before_any_request(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with ScriptedServer(object_answer(DATA)) as server:
        with within(15), pytest.raises(CredentialsError, match="no credentials") as caught:
            get(make_client(server.endpoint))
        assert server.requests == []
        for hint in ("AWS_ACCESS_KEY_ID", "unsigned"):
            assert hint in str(caught.value)
        assert get(make_client(server.endpoint, unsigned=True)) == DATA


def test_a_client_that_does_not_sign_sends_nothing_of_its_user(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        assert get(make_client(server.endpoint, unsigned=True)) == DATA
        (request,) = server.requests
    assert "authorization" not in request.headers
    assert not [
        name for name in request.headers if name in ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
    ]


def test_the_requester_pays_on_every_request(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint, requester_pays=True)
        get(client)
        client.head_object("bucket", "key")
        client.put("bucket", "key", b"x")
        client.delete_object("bucket", "key")
    assert len(server.requests) == 4
    for request in server.requests:
        assert request.headers["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" in request.headers["authorization"]


# Uploads


@pytest.mark.parametrize("then", ["keeps the connection", "hangs up", "resets"])
def test_an_upload_refused_while_it_is_sent_is_the_stores_error(make_client: MakeClient, then: str) -> None:
    done = threading.Event()

    def refuse(request: Request, wire: Wire) -> None:
        wire.read_body(1000)
        error_answer(403, "AccessDenied")(request, wire)
        if then != "keeps the connection":
            done.wait(5)  # let the answer arrive before the reset that unread bytes cause
            wire.close() if then == "hangs up" else wire.reset()
        else:
            done.wait(10)
            wire.close()

    with ScriptedServer(refuse) as server:
        client = make_client(server.endpoint, part_size=64 * 1024**2)
        with within(15), pytest.raises(AccessDeniedError):
            client.put("bucket", "key", bytes(20_000_000))
        done.set()
        assert len(server.requests) == 1


def test_an_upload_that_breaks_is_sent_again_whole(make_client: MakeClient) -> None:
    body = bytes(range(256)) * 8000

    def cut(request: Request, wire: Wire) -> None:
        wire.read_body(100_000)
        wire.reset()

    def accept(request: Request, wire: Wire) -> None:
        wire.read_body()
        wire.respond(200, b"", {"ETag": '"new"'})

    with ScriptedServer(in_turn(cut, accept)) as server:
        assert make_client(server.endpoint).put("bucket", "key", body).etag == '"new"'
        assert server.requests[1].body == body
        assert server.requests[1].headers["content-length"] == str(len(body))


@pytest.mark.parametrize("breaks", [False, True])
def test_an_upload_goes_on_from_a_copy_when_its_memory_is_needed(make_client: MakeClient, *, breaks: bool) -> None:
    body = bytes(range(256)) * 80_000  # more than the sockets' buffers take at once
    memory = bytearray(body)
    moved = threading.Event()

    def slow(request: Request, wire: Wire) -> None:
        wire.read_body(100_000)
        assert moved.wait(20)
        if breaks and len(server.requests) == 1:
            wire.reset()
            return
        wire.read_body()
        wire.respond(200, b"", {"ETag": '"new"'})

    with ScriptedServer(slow) as server:
        client = make_client(server.endpoint)
        transfer = client.engine.start_put("bucket", "key", [memoryview(memory)], PutOptions())
        transfer.advance(0.2)
        transfer.rebase([memoryview(body)[:7], memoryview(body)[7:]])
        memory[:] = bytes(len(memory))
        moved.set()
        assert transfer.result().etag == '"new"'
        assert server.requests[-1].body == body


COMPLETED = b"<CompleteMultipartUploadResult><ETag>&quot;whole-2&quot;</ETag></CompleteMultipartUploadResult>"
PARTS = [PartResult(1, '"a"'), PartResult(2, '"b"')]


def complete(client: S3Client) -> str:
    return client.engine.complete_multipart("bucket", "key", "upload", PARTS, PutOptions()).etag


def test_a_completion_that_turns_into_an_error_is_retried(make_client: MakeClient) -> None:
    late = error_answer(200, "InternalError")
    with ScriptedServer(in_turn(late, lambda request, wire: wire.respond(200, COMPLETED))) as server:
        assert complete(make_client(server.endpoint)) == '"whole-2"'
        assert len(server.requests) == 2
    with ScriptedServer(late) as server, within(15), pytest.raises(ServerError):
        complete(make_client(server.endpoint, max_attempts=2))


def test_a_completion_kept_alive_by_white_space_is_read(make_client: MakeClient) -> None:
    def slow(request: Request, wire: Wire) -> None:
        wire.send(wire.head(200, {"Transfer-Encoding": "chunked"}))
        for piece in (b" ", b"\n ", COMPLETED):
            wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            wire.stall(0.05)
        wire.send(b"0\r\n\r\n")

    with ScriptedServer(slow) as server:
        assert complete(make_client(server.endpoint)) == '"whole-2"'


def lost_answer(request: Request, wire: Wire) -> None:
    wire.read_body()
    wire.close()


def head_of(etag: str, age_s: float) -> Answer:
    modified = format_datetime(datetime.now(timezone.utc) - timedelta(seconds=age_s), usegmt=True)
    return lambda request, wire: wire.respond(
        200, b"", {"ETag": etag, "Last-Modified": modified, "Content-Length": "5"}
    )


def test_a_completion_whose_answer_was_lost_is_found_done(make_client: MakeClient) -> None:
    script = in_turn(lost_answer, error_answer(404, "NoSuchUpload"), head_of('"whole-2"', 1))
    with ScriptedServer(script) as server:
        assert complete(make_client(server.endpoint)) == '"whole-2"'
        assert [request.method for request in server.requests] == ["POST", "POST", "HEAD"]


@pytest.mark.parametrize(("etag", "age_s"), [('"other"', 1), ('"whole-3"', 1), ('"whole-2"', 7200)])
def test_a_completion_is_not_found_done_by_another_object(make_client: MakeClient, etag: str, age_s: float) -> None:
    script = in_turn(lost_answer, error_answer(404, "NoSuchUpload"), head_of(etag, age_s))
    with ScriptedServer(script) as server, within(15), pytest.raises(ObjectNotFoundError):
        complete(make_client(server.endpoint))


def test_an_upload_that_never_was_cannot_be_completed(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(404, "NoSuchUpload")) as server:
        with within(15), pytest.raises(ObjectNotFoundError):
            complete(make_client(server.endpoint))
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"not xml", b"<Other/>", b"<InitiateMultipartUploadResult/>"])
def test_an_upload_begun_without_an_id_is_an_error(make_client: MakeClient, body: bytes) -> None:
    with ScriptedServer(lambda request, wire: wire.respond(200, body)) as server:
        client = make_client(server.endpoint)
        with within(15), pytest.raises(ProtocolError):
            client.engine.create_multipart("bucket", "key", PutOptions())


# Directory buckets

EXPRESS = "bucket--usw2-az1--x-s3"


def test_a_directory_bucket_is_used_through_a_session(make_client: MakeClient) -> None:
    store = object_answer(DATA)
    sessions = 0

    def answer(request: Request, wire: Wire) -> None:
        nonlocal sessions
        if "session" not in request.query:
            store(request, wire)
            return
        sessions += 1
        # The first is about to expire: it must not be used for long.
        expiry = datetime.now(timezone.utc) + (timedelta(seconds=30) if sessions == 1 else timedelta(minutes=5))
        wire.respond(
            200,
            (
                "<CreateSessionResult><Credentials>"
                f"<SessionToken>session-token-{sessions}</SessionToken><SecretAccessKey>session-secret</SecretAccessKey>"
                f"<AccessKeyId>SESSION{sessions}</AccessKeyId><Expiration>{expiry:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
                "</Credentials></CreateSessionResult>"
            ).encode(),
        )

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint)
        request = GetRequest(EXPRESS, "key")
        for _ in range(4):
            assert client.engine.start_get(request).result().data == DATA
        gets = [request for request in server.requests if "session" not in request.query]
    assert [request.path for request in gets] == [f"/{EXPRESS}/key"] * 4
    tokens = [request.headers["x-amz-s3session-token"] for request in gets]
    assert tokens == ["session-token-1", *["session-token-2"] * 3]
    assert [scope_of(request)[0] for request in gets] == ["SESSION1", *["SESSION2"] * 3]
    assert {scope_of(request)[3] for request in gets} == {"s3express"}
    assert not any("x-amz-security-token" in request.headers for request in gets)
    assert sessions == 2


def test_a_directory_bucket_without_a_session_is_an_error(make_client: MakeClient) -> None:
    with ScriptedServer(error_answer(403, "AccessDenied")) as server:
        client = make_client(server.endpoint)
        with within(15), pytest.raises(CredentialsError, match="session") as caught:
            client.engine.start_get(GetRequest(EXPRESS, "key")).result()
    assert "CreateSession" in str(caught.value)
