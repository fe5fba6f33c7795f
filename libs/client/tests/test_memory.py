"""The in-memory engine is as strict as S3, beyond the laws that every engine obeys."""

from __future__ import annotations

import multiprocessing
import threading
import uuid
import warnings
from typing import Any

import pytest

from s3torch.client import (
    BucketNotFoundError,
    PreconditionFailedError,
    PutOptions,
    S3Client,
    S3ClientConfig,
    S3Exception,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Engine, EngineContext

MIB = 1024 * 1024


@pytest.fixture
def endpoint() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def store(endpoint: str) -> MemoryStore:
    store = MemoryStore.named(endpoint)
    store.create_bucket("b")
    return store


@pytest.fixture
def client(endpoint: str, store: MemoryStore) -> S3Client:
    return connect(endpoint)


def connect(endpoint: str | None) -> S3Client:
    return S3Client(endpoint=endpoint, s3client_config=S3ClientConfig(engine="memory"))


def view(data: bytes) -> list[memoryview]:
    return [memoryview(data)]


def test_clients_of_one_endpoint_share_a_store(endpoint: str, client: S3Client) -> None:
    client.put("b", "k", b"data")
    assert connect(endpoint).read("b", "k") == b"data"
    with pytest.raises(BucketNotFoundError):
        connect(f"{endpoint}/other").read("b", "k")


def test_a_store_shows_what_it_keeps(client: S3Client, store: MemoryStore) -> None:
    client.put("b", "k", b"data", options=PutOptions(tags={"a": "b"}))
    upload = client.engine.create_multipart("b", "big", PutOptions())
    assert store.objects("b")["k"].data == b"data"
    assert store.objects("b")["k"].options.tags == {"a": "b"}
    assert store.uploads("b") == {upload: "big"}
    store.clear()
    with pytest.raises(BucketNotFoundError):
        client.read("b", "k")


def test_an_engine_takes_a_store_of_its_own() -> None:
    store = MemoryStore(min_part_size=1, clock=lambda: 1234.5)
    store.create_bucket("b")
    context = EngineContext(None, None, "", S3ClientConfig())
    engine: Engine = MemoryEngine(context, store)
    upload = engine.create_multipart("b", "k", PutOptions())
    parts = [engine.start_part("b", "k", upload, n, view(b"ab")).result() for n in (1, 2)]
    assert engine.complete_multipart("b", "k", upload, parts, PutOptions()).etag.endswith('-2"')
    assert engine.head("b", "k").last_modified == 1234


def test_the_region_comes_from_argument_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    config = S3ClientConfig(engine="memory")
    assert S3Client(s3client_config=config).region == "us-east-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert S3Client(s3client_config=config).region == "eu-west-1"
    assert S3Client("eu-north-1", s3client_config=config).engine.region == "eu-north-1"


def test_small_parts_are_refused(client: S3Client) -> None:
    engine = client.engine
    upload = engine.create_multipart("b", "k", PutOptions())
    parts = [engine.start_part("b", "k", upload, n, view(b"small")).result() for n in (1, 2)]
    with pytest.raises(S3Exception) as caught:
        engine.complete_multipart("b", "k", upload, parts, PutOptions())
    assert caught.value.code == "EntityTooSmall"
    assert "5 MiB" in str(caught.value)
    engine.complete_multipart("b", "k", upload, parts[:1], PutOptions())
    assert client.read("b", "k") == b"small"


@pytest.mark.parametrize(
    ("order", "code"), [([2, 1], "InvalidPartOrder"), ([1, 1], "InvalidPartOrder"), ([], "MalformedXML")]
)
def test_parts_come_in_order(client: S3Client, order: list[int], code: str) -> None:
    engine = client.engine
    upload = engine.create_multipart("b", "k", PutOptions())
    parts = {n: engine.start_part("b", "k", upload, n, view(bytes(5 * MIB))).result() for n in (1, 2)}
    with pytest.raises(S3Exception) as caught:
        engine.complete_multipart("b", "k", upload, [parts[n] for n in order], PutOptions())
    assert caught.value.code == code


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_part_numbers_have_bounds(client: S3Client, number: int) -> None:
    upload = client.engine.create_multipart("b", "k", PutOptions())
    with pytest.raises(S3Exception) as caught:
        client.engine.start_part("b", "k", upload, number, view(b"x")).result()
    assert caught.value.status == 400


def test_completing_can_be_conditional(client: S3Client) -> None:
    engine, options = client.engine, PutOptions(if_none_match=True)
    upload = engine.create_multipart("b", "k", options)
    part = engine.start_part("b", "k", upload, 1, view(b"second")).result()
    client.put("b", "k", b"first")
    with pytest.raises(PreconditionFailedError):
        engine.complete_multipart("b", "k", upload, [part], options)
    assert client.read("b", "k") == b"first"


def test_an_upload_belongs_to_its_key(client: S3Client) -> None:
    upload = client.engine.create_multipart("b", "k", PutOptions())
    with pytest.raises(S3Exception) as caught:
        client.engine.start_part("b", "other", upload, 1, view(b"x")).result()
    assert caught.value.code == "NoSuchUpload"


def test_long_keys_are_refused(client: S3Client) -> None:
    client.put("b", "ä" * 512, b"x")
    with pytest.raises(S3Exception) as caught:
        client.put("b", "ä" * 512 + "x", b"x")
    assert caught.value.code == "KeyTooLongError"


def test_one_request_deletes_a_thousand(client: S3Client) -> None:
    with pytest.raises(S3Exception):
        client.engine.delete_many("b", [f"k{n}" for n in range(1001)])


def test_a_copy_onto_itself_must_change_something(client: S3Client) -> None:
    client.put("b", "k", b"data")
    with pytest.raises(S3Exception) as caught:
        client.copy_object("b", "k", "b", "k")
    assert caught.value.code == "InvalidRequest"


def test_a_put_keeps_no_hold_of_the_callers_memory(client: S3Client) -> None:
    data = bytearray(b"before")
    client.put("b", "k", data)
    data[:] = b"after!"
    assert client.read("b", "k") == b"before"


def test_of_many_creators_one_succeeds(client: S3Client) -> None:
    wins: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait(30)
        try:
            client.put("b", "k", bytes([number]), options=PutOptions(if_none_match=True))
            wins.append(number)
        except PreconditionFailedError:
            pass

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(wins) == 1
    assert client.read("b", "k") == bytes(wins)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_a_forked_child_has_its_own_copy_even_if_the_store_was_locked(client: S3Client, store: MemoryStore) -> None:
    from s3torch.client import _memory_store

    client.put("b", "k", b"data")
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with _memory_store._lock():
            locked.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(60)
    process: Any = multiprocessing.get_context("fork").Process(target=write_in_child, args=(client,))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside a thread: the case in question
            process.start()
        process.join(60)
    finally:
        release.set()
        holder.join(60)
    assert process.exitcode == 0
    assert client.read("b", "k") == b"data"


def write_in_child(client: S3Client) -> None:
    assert client.read("b", "k") == b"data"
    client.put("b", "k", b"child")
