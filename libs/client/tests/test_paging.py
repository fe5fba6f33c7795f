"""Listings end, whatever a store answers: with the last page, or with an error that says what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from libs.client.tests.listings import (
    ENDLESS,
    Script,
    list_with_gaps,
    listed_by,
    repeat_everything,
    say_an_empty_token,
    say_no_token,
)

from s3torch.client import (
    ProtocolError,
    S3Client,
    S3ClientConfig,
    UploadInfo,
)
from s3torch.client.paging import Paging
from s3torch.harness.servers.scripted import ScriptedServer

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

MOST = 40
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
