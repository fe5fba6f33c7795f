"""Listings end, whatever a store answers: with the last page, or with an error that says what is wrong."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

import pytest

from s3torch.client import (
    EngineContext,
    ListObjectResult,
    ObjectInfo,
    ProtocolError,
    S3Client,
    S3ClientConfig,
    UploadInfo,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.paging import Paging
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

Page = tuple[list[str], bool, "str | None"]
"""Keys, whether the list goes on, and what is said to ask for the next page."""
Script = Callable[["str | None"], Page]
"""Gives a page for the token that it is asked for with."""

MOST = 40


def repeat_everything() -> Script:
    return lambda token: (["p/a", "p/b"], True, "same")


def repeat_the_token() -> Script:
    """Goes on for three pages, and then stays."""
    return lambda token: ([f"p/{token}"], True, {None: "1", "1": "2", "2": "3"}.get(token, "3"))


def repeat_empty_pages() -> Script:
    return lambda token: ([], True, "same")


def drop_the_token() -> Script:
    """Gives the first page whatever it is asked, with a token that looks new each time."""
    tokens = itertools.count()
    return lambda token: (["p/a", "p/b"], True, f"token {next(tokens)}")


def go_in_a_circle() -> Script:
    """Comes back to where it was after some pages without keys."""
    return lambda token: ([], True, f"{(int(token or 0) + 1) % 5 + 1}")


def turn_back_later() -> Script:
    """Comes back to keys that it has listed, with new tokens, and some pages after the first ones."""
    count = itertools.count()

    def answer(token: str | None) -> Page:
        number = next(count)
        return [f"p/{number if number < 3 else 3 + number % 4}"], True, f"token {number}"

    return answer


ENDLESS = [
    repeat_everything,
    repeat_the_token,
    repeat_empty_pages,
    drop_the_token,
    go_in_a_circle,
    turn_back_later,
]


def say_no_token(token: str | None) -> Page:
    return (["p/a"], True, "1") if token is None else (["p/b"], True, None)


def say_an_empty_token(token: str | None) -> Page:
    return (["p/a"], True, "1") if token is None else (["p/b"], True, "")


def list_with_gaps(token: str | None) -> Page:
    """Ten pages, most of them without keys, each with another token."""
    number = int(token or 0)
    return [f"p/{number}"] if number % 4 == 3 else [], number < 9, f"{number + 1}" if number < 9 else None


def listing(page: Page) -> bytes:
    keys, is_truncated, token = page
    return (
        "<ListBucketResult><Name>bucket</Name><Prefix>p/</Prefix>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        + "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for key in keys
        )
        + (f"<NextContinuationToken>{token}</NextContinuationToken>" if token is not None else "")
        + "</ListBucketResult>"
    ).encode()


class ScriptedEngine(MemoryEngine):
    """An engine in memory whose pages are a script's."""

    def __init__(self, context: EngineContext, script: Script) -> None:
        super().__init__(context, MemoryStore())
        self.script = script

    def list_page(self, bucket: str, prefix: str, **options: Any) -> tuple[ListObjectResult, str | None]:
        keys, is_truncated, token = self.script(options["token"])
        infos = [ObjectInfo(key, '"e"', 1, 0) for key in keys]
        return ListObjectResult(infos, []), (token or "") if is_truncated else None


@contextlib.contextmanager
def listed_by(engine: str, script: Script) -> Iterator[S3Client]:
    """Give a client whose store lists by a script."""
    options: dict[str, Any] = {"force_path_style": True, "read_timeout": 5.0, "operation_timeout": 20.0}
    if engine == "memory":
        yield S3Client("us-east-1", s3client_config=S3ClientConfig(engine=lambda c: ScriptedEngine(c, script)))
        return

    def answer(request: Request, wire: Wire) -> None:
        wire.respond(200, listing(script(request.query.get("continuation-token"))))

    with (
        ScriptedServer(answer) as server,
        S3Client(
            "us-east-1", endpoint=server.endpoint, s3client_config=S3ClientConfig(engine=engine, **options)
        ) as client,
    ):
        yield client


on_each_engine = pytest.mark.parametrize("engine", ["direct", "boto3", "memory"])


@on_each_engine
@pytest.mark.parametrize("make", ENDLESS, ids=lambda make: make.__name__)
def test_a_list_that_goes_on_where_it_has_been_is_an_error(engine: str, make: Callable[[], Script]) -> None:
    with listed_by(engine, make()) as client:
        pages = client.list_objects("bucket", "p/")
        with pytest.raises(ProtocolError, match=r"s3://bucket: the list of prefix 'p/' goes on where it has been") as e:
            list(itertools.islice(pages, MOST))
        assert e.value.bucket == "bucket"
        assert e.value.remedy is not None
        assert "proxy" in e.value.remedy


@on_each_engine
def test_no_page_is_given_twice(engine: str) -> None:
    with listed_by(engine, repeat_everything()) as client:
        pages = client.list_objects("bucket", "p/")
        assert [info.key for info in next(pages).object_info] == ["p/a", "p/b"]
        with pytest.raises(ProtocolError):
            next(pages)


@on_each_engine
@pytest.mark.parametrize("script", [say_no_token, say_an_empty_token], ids=lambda script: script.__name__)
def test_a_list_that_goes_on_but_does_not_say_where_is_an_error(engine: str, script: Script) -> None:
    with listed_by(engine, script) as client:
        pages = client.list_objects("bucket", "p/")
        assert [info.key for info in next(pages).object_info] == ["p/a"]
        with pytest.raises(ProtocolError, match="the list of prefix 'p/' goes on but does not say where") as caught:
            next(pages)
        assert caught.value.bucket == "bucket"
        assert caught.value.operation == "ListObjectsV2"


@on_each_engine
def test_pages_without_keys_are_passed_over_while_tokens_are_new(engine: str) -> None:
    with listed_by(engine, list_with_gaps) as client:
        pages = list(client.list_objects("bucket", "p/"))
    assert len(pages) == 10
    assert [info.key for page in pages for info in page.object_info] == ["p/3", "p/7"]


def uploads(count: int, is_truncated: bool) -> bytes:
    return (
        "<ListMultipartUploadsResult><Bucket>bucket</Bucket><Prefix>p/</Prefix>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        + "".join(
            f"<Upload><Key>p/{number}</Key><UploadId>u</UploadId><Initiated>2024-01-02T03:04:05.000Z</Initiated></Upload>"
            for number in range(count)
        )
        + "</ListMultipartUploadsResult>"
    ).encode()


@pytest.mark.parametrize("engine", ["direct", "boto3"])
@pytest.mark.parametrize(
    ("count", "message"), [(2, "goes on where it has been"), (0, "goes on but does not say where")]
)
def test_unfinished_uploads_are_not_listed_for_ever(engine: str, count: int, message: str) -> None:
    config = S3ClientConfig(engine=engine, force_path_style=True, read_timeout=5.0, operation_timeout=20.0)
    with (
        ScriptedServer(lambda _, wire: wire.respond(200, uploads(count, is_truncated=True))) as server,
        S3Client("us-east-1", endpoint=server.endpoint, s3client_config=config) as client,
    ):
        found: list[UploadInfo] = []
        with pytest.raises(ProtocolError, match=f"the list of prefix 'p/' {message}") as caught:
            found.extend(itertools.islice(client.list_uploads("bucket", "p/"), MOST))
        assert caught.value.operation == "ListMultipartUploads"
        assert [upload.key for upload in found] == [f"p/{number}" for number in range(count)]


@pytest.mark.parametrize("lead", [0, 1, 2, 7, 30])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 50])
def test_circles_of_any_length_are_found_soon(lead: int, length: int) -> None:
    """Once round the circle, from the page that is kept: the first whose number is a power of two, in and as long."""
    paging: Paging[str] = Paging("ListObjectsV2", "bucket", "")
    numbers = itertools.count()

    def follow() -> None:
        for number in itertools.islice(numbers, 10 * (lead + length)):
            paging.turn(f"{number if number < lead else lead + (number - lead) % length}", None)

    with pytest.raises(ProtocolError):
        follow()
    assert lead + length < next(numbers) <= 2 * max(lead + 1, length) + length


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_pages_that_differ_are_never_refused(count: int) -> None:
    paging: Paging[str] = Paging("ListObjectsV2", "bucket", "")
    for number in range(count):
        assert paging.turn(f"{number}", f"k{number}" if number % 3 else None) == f"{number}"
    assert paging.turn(None, "last") is None
