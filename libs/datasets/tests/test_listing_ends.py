"""Listings of datasets end, whatever a store answers: with all objects, or with an error that says what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s3torch.client import EngineContext, ListPage, ProtocolError, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.transfers import DoneTransfer
from s3torch.datasets import S3MapDataset, list_index
from s3torch.datasets._listing import list_ahead
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

Page = tuple[list[str], bool, "str | None"]
"""Keys, whether the list goes on, and what is said to ask for the next page."""
Script = Callable[["str | None"], Page]
"""Gives a page for the token that it is asked for with."""


def repeat_everything() -> Script:
    return lambda token: (["p/a", "p/b"], True, "same")


def repeat_empty_pages() -> Script:
    return lambda token: ([], True, "same")


def drop_the_token() -> Script:
    """Gives the first page whatever it is asked, with a token that looks new each time."""
    tokens = itertools.count()
    return lambda token: (["p/a", "p/b"], True, f"token {next(tokens)}")


def go_in_a_circle() -> Script:
    return lambda token: ([], True, f"{(int(token or 0) + 1) % 5 + 1}")


def say_no_token() -> Script:
    return lambda token: (["p/a"], True, None)


def list_with_gaps(token: str | None) -> Page:
    """Ten pages, most of them without keys, each with another token."""
    number = int(token or 0)
    return [f"p/{number}"] if number % 4 == 3 else [], number < 9, f"{number + 1}" if number < 9 else None


class ScriptedEngine(MemoryEngine):
    """An engine in memory whose pages are a script's."""

    def __init__(self, context: EngineContext, script: Script) -> None:
        super().__init__(context, MemoryStore())
        self.script = script

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        keys, is_truncated, token = self.script(options["token"])
        count = len(keys)
        encoded = [key.encode() for key in keys]
        mark = (token or "") if is_truncated else None
        return DoneTransfer(ListPage(encoded, [1] * count, ['"e"'] * count, [0] * count, [None] * count, token=mark))


def answer(script: Script) -> Callable[[Request, Wire], None]:
    """Answer as a store does that lists by a script, and for ever."""

    def respond(request: Request, wire: Wire) -> None:
        keys, is_truncated, token = script(request.query.get("continuation-token"))
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for key in keys
        )
        end = f"<NextContinuationToken>{token}</NextContinuationToken>" if token is not None else ""
        wire.respond(
            200,
            f"<ListBucketResult><Name>bucket</Name><Prefix>p/</Prefix><IsTruncated>{str(is_truncated).lower()}"
            f"</IsTruncated>{entries}{end}</ListBucketResult>".encode(),
        )

    return respond


ListBy = Callable[[Script], S3Client]


@pytest.fixture(params=["direct", "boto3", "memory"])
def list_by(request: pytest.FixtureRequest) -> Iterator[ListBy]:
    """Make a client of each engine whose store lists by a script."""
    ends: list[Callable[[], object]] = []

    def make(script: Script) -> S3Client:
        options: dict[str, Any] = {"force_path_style": True, "read_timeout": 5.0, "operation_timeout": 20.0}
        endpoint = None
        options["engine"] = request.param
        if request.param == "memory":
            options["engine"] = lambda context: ScriptedEngine(context, script)
        else:
            server = ScriptedServer(answer(script))
            server.__enter__()
            ends.append(lambda: server.__exit__(None, None, None))
            endpoint = server.endpoint
        client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(**options))
        ends.append(client.close)
        return client

    yield make
    for end in reversed(ends):
        end()


def ahead(client: S3Client) -> list[str]:
    return [item.key for item in itertools.islice(list_ahead(client, "bucket", "p/"), 100)]


def index(client: S3Client) -> list[str]:
    return [item.key for item in list_index(client, "s3://bucket/p/", connections=4)]


def dataset(client: S3Client) -> list[str]:
    made = S3MapDataset.from_prefix(
        "s3://bucket/p/",
        region="us-east-1",
        endpoint=client.endpoint,
        s3client_config=client.s3client_config,
        transform=lambda reader: reader.key,
    )
    return [made[place] for place in range(len(made))]


each_way = pytest.mark.parametrize("list_keys", [ahead, index, dataset], ids=lambda way: way.__name__)


@each_way
@pytest.mark.parametrize(
    "make", [repeat_everything, repeat_empty_pages, drop_the_token, go_in_a_circle], ids=lambda make: make.__name__
)
def test_a_list_that_goes_on_where_it_has_been_is_an_error(
    list_by: ListBy, list_keys: Callable[[S3Client], list[str]], make: Callable[[], Script]
) -> None:
    client = list_by(make())
    with pytest.raises(ProtocolError, match=r"s3://bucket: the list of prefix 'p/' goes on where it has been"):
        list_keys(client)


@each_way
def test_a_list_that_goes_on_but_does_not_say_where_is_an_error(
    list_by: ListBy, list_keys: Callable[[S3Client], list[str]]
) -> None:
    client = list_by(say_no_token())
    with pytest.raises(ProtocolError, match="s3://bucket: the list of prefix 'p/' goes on but does not say where"):
        list_keys(client)


@pytest.mark.parametrize("list_keys", [ahead, index], ids=lambda way: way.__name__)
def test_pages_without_keys_are_passed_over_while_tokens_are_new(
    list_by: ListBy, list_keys: Callable[[S3Client], list[str]]
) -> None:
    assert list_keys(list_by(list_with_gaps)) == ["p/3", "p/7"]
