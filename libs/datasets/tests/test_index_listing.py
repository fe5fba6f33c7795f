"""A listing in parallel finds what a serial one finds, in order, with not many more requests."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libs.client.tests.listings import LatePage

from s3torch.client import (
    BucketNotFoundError,
    CacheConfig,
    EngineContext,
    ListObjectResult,
    ObjectInfo,
    ProtocolError,
    S3Client,
    S3ClientConfig,
    S3ConnectionError,
    S3Uri,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.datasets import list_index
from s3torch.datasets.index._keyspace import successor
from s3torch.datasets.index.listing import list_prefix
from s3torch.harness.servers import MotoServer


class LateEngine(MemoryEngine):
    """Pages are in flight, and come in any order; what is listed changes when ``between`` says so."""

    def __init__(self, keys: Sequence[str], seed: int = 0) -> None:
        super().__init__(EngineContext("us-east-1", None, "", S3ClientConfig()), MemoryStore())
        self.store.create_bucket("b")
        self.client = S3Client("us-east-1", s3client_config=S3ClientConfig(engine=lambda _: self))
        for key in keys:
            self.client.put("b", key, key.encode())
        self.random = random.Random(seed)
        self.flying: list[LatePage] = []
        self.most = self.asked = self.rounds = self.cancelled = 0
        self.between: Callable[[], object] = lambda: None

    def start_list_page(self, *arguments: object, **options: object) -> LatePage:  # type: ignore[override]  # waits
        self.asked += 1
        page = LatePage(self, lambda: MemoryEngine.start_list_page(self, *arguments, **options))  # type: ignore[arg-type]
        self.most = max(self.most, len(self.flying))
        return page

    def step(self) -> None:
        """Let one page arrive."""
        self.between()
        self.rounds += 1
        page = self.flying.pop(self.random.randrange(len(self.flying)))
        page.answer = page.ask()


def listed(engine: LateEngine, prefix: str = "", connections: int = 16, page_size: int = 1000) -> list[str]:
    index = list_prefix(engine, S3Uri("b", prefix), connections, lambda _: None, page_size=page_size)
    return [item.key for item in index]


def ordered(keys: Sequence[str], prefix: str = "") -> list[str]:
    return sorted({key for key in keys if key.startswith(prefix)}, key=str.encode)


CHARACTER = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
KEY = st.one_of(
    st.text(CHARACTER, min_size=1, max_size=6),
    st.text("ab/", min_size=1, max_size=8),
    st.integers(0, 300).map("deep/long/common/prefix/{:08}.jpg".format),
    st.integers(0, 2**32).map("hash/{:08x}".format),
    st.sampled_from(["\U0010ffff", "\U0010ffff\U0010ffff", "\ud7ff", "\ue000", "a\U0010ffffb"]),
)


@settings(max_examples=200)
@given(st.lists(KEY, max_size=80), st.integers(1, 9), st.integers(1, 6), st.data())
def test_it_lists_any_keys_in_order_and_once(
    keys: list[str], page_size: int, connections: int, data: st.DataObject
) -> None:
    prefix = data.draw(st.sampled_from(["", "a", "deep/", "hash/0", *(key[:2] for key in keys)]))
    engine = LateEngine(keys, data.draw(st.integers(0, 99)))
    assert listed(engine, prefix, connections, page_size) == ordered(keys, prefix)
    assert engine.most <= connections
    assert not engine.flying


@settings(max_examples=40)
@given(st.lists(KEY, min_size=20, max_size=60, unique=True), st.data())
def test_keys_that_are_deleted_meanwhile_do_no_harm(keys: list[str], data: st.DataObject) -> None:
    engine = LateEngine(keys)
    doomed = data.draw(st.lists(st.sampled_from(keys), max_size=30))
    left = iter(doomed)
    engine.between = lambda: engine.store.remove("b", [next(left, "")])
    found = listed(engine, page_size=data.draw(st.integers(1, 5)))
    assert found == ordered(found)
    assert set(keys) - set(doomed) <= set(found) <= set(keys)


def folders(count: int, each: int) -> list[str]:
    return [f"train/n{folder:05}/image_{number:06}.jpg" for folder in range(count) for number in range(each)]


DISTRIBUTIONS: dict[str, Callable[[], list[str]]] = {
    "uniform hexadecimal": lambda: [f"data/{random.Random(n).getrandbits(128):032x}" for n in range(20_000)],
    "one folder": lambda: folders(1, 20_000),
    "100 folders": lambda: folders(100, 200),
    "folders of one": lambda: folders(20_000, 1),
    "numbers": lambda: [f"{number:012}" for number in range(20_000)],
    "numbers without zeros": lambda: [f"sample-{number}.tar" for number in range(20_000)],
    "deep prefixes": lambda: [f"{'a/very/long/way/' * 20}x{n % 7}/{'deep/' * 20}{n:06}" for n in range(20_000)],
    "unicode": lambda: [f"bilder/{chr(0x4E00 + n % 500)}/{chr(0x1F600 + n % 40)}-{n}" for n in range(20_000)],
    "uuids": lambda: [str(uuid.UUID(int=random.Random(n).getrandbits(128))) for n in range(20_000)],
    "two islands": lambda: [f"{c * 50}/{n:07}" for c in "az" for n in range(10_000)],
    "a giant among dwarfs": lambda: [f"{n:03}/x" for n in range(500)] + [f"250/y/{n:06}" for n in range(19_500)],
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_it_is_parallel_whatever_keys_look_like(name: str) -> None:
    """Counted in requests, of which as many as there are connections take the time of one."""
    keys = DISTRIBUTIONS[name]()
    engine = Clocked(keys)
    assert listed(engine, page_size=50) == ordered(keys)
    pages = len(keys) / 50
    assert engine.asked <= 2 * pages + 64
    assert engine.most == 16
    assert pages / engine.rounds >= 6, f"{engine.rounds} round trips for {pages:.0f} pages, {engine.asked} requests"


class Clocked(LateEngine):
    """All that is in flight arrives at the same time: rounds count round trips."""

    def step(self) -> None:
        self.rounds += 1
        flying, self.flying = self.flying, []
        for page in flying:
            page.answer = page.ask()


def test_one_key_and_none_cost_one_request() -> None:
    for keys in (["only"], []):
        engine = LateEngine(keys)
        assert listed(engine) == keys
        assert engine.asked == 1


class Unordered(LateEngine):
    """Lists in an order of its own, from the start whatever it is asked, as directory buckets do."""

    def list_page(self, bucket, prefix, *, delimiter, max_keys, token, start_after):  # type: ignore[no-untyped-def]
        page, following = super().list_page(
            bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=None
        )
        page.object_info.reverse()
        return page, following


def test_a_store_that_does_not_sort_is_sorted() -> None:
    keys = [f"{number:03}" for number in range(100)]
    engine = Unordered(keys)
    index = list_prefix(engine, S3Uri("b", ""), 4, lambda _: None, page_size=7)
    assert [item.key for item in index] == keys
    info = index[17].object_info
    assert isinstance(info, ObjectInfo)
    assert info.etag == engine.head("b", "017").etag


class Restarting(LateEngine):
    """Ignores where it is asked to start."""

    def list_page(self, bucket, prefix, *, delimiter, max_keys, token, start_after):  # type: ignore[no-untyped-def]
        return super().list_page(bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=None)


def test_a_store_that_cannot_start_in_the_middle_is_listed_from_the_start() -> None:
    keys = [f"{number:03}" for number in range(100)]
    assert listed(Restarting(keys), page_size=7) == keys


class Repeating(LateEngine):
    """Gives one page again and again."""

    def list_page(self, bucket, prefix, *, delimiter, max_keys, token, start_after):  # type: ignore[no-untyped-def]
        return super().list_page(bucket, prefix, delimiter=delimiter, max_keys=2, token=None, start_after=None)


def test_a_store_that_gives_one_page_again_and_again_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="goes on where it has been"):
        listed(Repeating(["a", "b", "c", "d", "e"]), page_size=2)


class Stuck(LateEngine):
    """Lists the first keys; further on, a page without keys is followed by itself."""

    def list_page(self, bucket, prefix, *, delimiter, max_keys, token, start_after):  # type: ignore[no-untyped-def]
        page, following = super().list_page(
            bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
        )
        if following is None or bytes.fromhex(following) < b"050":
            return page, following
        return ListObjectResult([], []), token or following


@pytest.mark.parametrize("seed", range(5))
def test_a_range_that_stands_still_ends_the_listing(seed: int) -> None:
    engine = Stuck([f"{number:03}" for number in range(100)], seed)
    with pytest.raises(ProtocolError, match="s3://b: the list of prefix '' goes on where it has been"):
        listed(engine, page_size=5)
    assert engine.flying == [], "the other ranges are cancelled"
    assert engine.asked < 100


def test_a_directory_bucket_is_listed_page_after_page() -> None:
    engine = Unordered([])
    engine.store.create_bucket("b--use1-az4--x-s3")
    for number in range(30):
        engine.client.put("b--use1-az4--x-s3", f"{number:02}", b"")
    index = list_prefix(engine, S3Uri("b--use1-az4--x-s3", ""), 16, lambda _: None, page_size=4)
    assert [item.key for item in index] == [f"{number:02}" for number in range(30)]
    assert engine.most == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), S3ConnectionError("gone")])
def test_what_is_in_flight_ends_with_an_error(error: BaseException) -> None:
    engine = LateEngine([f"{number:04}" for number in range(1000)])

    def fail() -> None:
        if engine.rounds == 20:
            raise error

    engine.between = fail
    with pytest.raises(type(error)):
        listed(engine, page_size=10)
    assert engine.cancelled > 1
    assert not engine.flying


@pytest.mark.usefixtures("dummy_aws_env")
def test_a_prefix_on_a_server(moto_server: MotoServer) -> None:
    bucket = moto_server.create_bucket(f"index-{uuid.uuid4().hex}")
    server = moto_server.boto3_client()
    keys = [f"a/{number % 5}/{number:03} é+%.bin" for number in range(60)]
    for key in keys:
        server.put_object(Bucket=bucket, Key=key, Body=key.encode() * 3)
    server.put_object(Bucket=bucket, Key="b", Body=b"")
    for engine in ("direct", "boto3"):
        config = S3ClientConfig(engine=engine)
        with S3Client(moto_server.region, endpoint=moto_server.endpoint, s3client_config=config) as client:
            index = list_prefix(client.engine, S3Uri(bucket, "a/"), 8, lambda _: None, page_size=7)
            pages = [info for page in client.list_objects(bucket, "a/") for info in page.object_info]
            assert [item.object_info for item in index] == pages
            assert [item.key for item in list_index(client, f"s3://{bucket}/")] == [*sorted(keys), "b"]
            assert len(list_index(client, f"s3://{bucket}/nothing")) == 0
            with pytest.raises(BucketNotFoundError):
                list_index(client, f"s3://{bucket}-absent/")


def test_a_bar_counts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    engine = LateEngine([f"{number:02}" for number in range(42)])
    assert len(list_index(engine.client, "s3://b", progress=True)) == 42
    assert "42.0 keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "options", "error"),
    [("b", {}, ValueError), ("s3://b", {"connections": 0}, ValueError), ("s3://b", {"connections": 1.5}, TypeError)],
)
def test_bad_arguments_fail_at_once(uri: str, options: dict[str, Any], error: type[Exception]) -> None:
    engine = LateEngine(["a"])
    with pytest.raises(error):
        list_index(engine.client, uri, **options)
    assert engine.asked == 0


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), st.text(st.characters(exclude_categories=["Cs"])))
def test_the_successor_ends_a_prefix(prefix: str, rest: str) -> None:
    after = successor(prefix)
    if after is None:
        assert not prefix.strip("\U0010ffff")
    else:
        assert (prefix + rest).encode() < after.encode()
        assert prefix.encode() + b"\xf4\x8f\xbf\xbf" < after.encode()


def test_it_lists_through_a_cache(tmp_path: Path) -> None:
    inner = LateEngine(["a/1", "a/2", "b"])
    config = S3ClientConfig(engine=lambda _: inner, cache=CacheConfig(str(tmp_path), max_bytes=2**20))
    with S3Client("us-east-1", endpoint="memory://cached", s3client_config=config) as client:
        assert [item.key for item in list_index(client, "s3://b/a/")] == ["a/1", "a/2"]
    assert inner.asked == 1
