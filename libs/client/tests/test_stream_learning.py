"""How a stream learns an object's size and ETag without a request of its own, and shares its bound."""

import io
import itertools
from typing import Any

import pytest

from s3torch.client import EngineContext, GetRequest, ObjectChangedError, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.values import GetInfo, HeadObjectResult

MIB = 1024 * 1024
_numbers = itertools.count()


class CountingEngine(MemoryEngine):
    def __init__(self, context: EngineContext, asked: list[Any]) -> None:
        super().__init__(context)
        self._asked = asked

    def start_get(self, request: GetRequest, into: Any = None) -> Any:
        self._asked.append((request.start, request.end))
        return super().start_get(request, into)

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        self._asked.append("head")
        return super().head(bucket, key)


@pytest.fixture
def asked() -> list[Any]:
    return []


@pytest.fixture
def client(asked: list[Any]) -> S3Client:
    endpoint = f"memory://learning-{next(_numbers)}"
    MemoryStore.named(endpoint).create_bucket("bucket")
    config = S3ClientConfig(engine=lambda context: CountingEngine(context, asked), part_size=5 * MIB)
    return S3Client("us-east-1", endpoint=endpoint, s3client_config=config)


def test_the_end_is_learnt_from_the_tail(client: S3Client, asked: list[Any]) -> None:
    client.put("bucket", "key", bytes(9 * MIB) + b"tail")
    stream = client.get("bucket", "key")
    assert stream.seek(-4, io.SEEK_END) == 9 * MIB
    assert stream.read() == b"tail"
    assert asked == [(-256 * 1024, None)]
    assert stream.buffered == [(9 * MIB + 4 - 256 * 1024, 9 * MIB + 4)]


def test_a_target_is_checked_by_what_lies_there(client: S3Client, asked: list[Any]) -> None:
    client.put("bucket", "key", bytes(range(250)) * 4000)
    stream = client.get("bucket", "key")
    assert stream.seek(500_001) == 500_001
    assert stream.read(2) == b"\x01\x02"
    assert asked == [(500_001, 500_001 + 256 * 1024)]
    assert stream.seek(10_000_000) == 1_000_000
    assert len(asked) == 1


@pytest.mark.parametrize("size", [0, 5])
def test_a_target_behind_the_end_costs_a_head(client: S3Client, asked: list[Any], size: int) -> None:
    client.put("bucket", "key", bytes(size))
    stream = client.get("bucket", "key")
    assert stream.seek(1000) == size
    assert stream.read() == b""
    assert asked[-1] == "head"


def test_bounded_streams_stay_in_their_range(client: S3Client) -> None:
    client.put("bucket", "key", bytes(range(100)))
    stream = client.get("bucket", "key", start=10, end=20)
    assert stream.seek(15) == 15
    assert stream.read() == bytes(range(15, 20))
    assert stream.seek(0, io.SEEK_END) == 20
    assert stream.seek(50) == 20
    with pytest.raises(ValueError):
        stream.seek(9)


def test_a_large_buffer_is_filled_without_knowing_the_size(client: S3Client, asked: list[Any]) -> None:
    data = bytes(range(256)) * (8 * MIB // 256)
    client.put("bucket", "key", data)
    buffer = bytearray(12 * MIB)
    stream = client.get("bucket", "key")
    assert stream.readinto(buffer) == len(data)
    assert buffer[: len(data)] == data
    assert asked == [(0, 5 * MIB), (5 * MIB, 7 * MIB), (7 * MIB, 8 * MIB)]
    assert stream.readinto(buffer) == 0
    client.put("bucket", "empty", b"")
    assert client.get("bucket", "empty").readinto(buffer) == 0


def test_a_whole_read_uses_what_was_prefetched(client: S3Client, asked: list[Any]) -> None:
    client.put("bucket", "key", b"12345")
    stream = client.get("bucket", "key")
    stream.prefetch()
    assert stream.read() == b"12345"
    assert len(asked) == 1


def test_another_object_than_learnt_is_an_error(client: S3Client) -> None:
    client.put("bucket", "key", b"12345")
    stream = client.get("bucket", "key")
    stream.learn(GetInfo(0, 5, 5, '"another"'))
    with pytest.raises(ObjectChangedError):
        stream.read()
    with pytest.raises(ObjectChangedError):
        stream.learn(GetInfo(0, 5, 5, '"third"'))


def test_what_is_lent_is_taken_from_the_bound(client: S3Client) -> None:
    client.put("bucket", "key", bytes(40 * MIB))
    stream = client.get("bucket", "key")
    assert stream.lend(12 * MIB) == 12 * MIB
    assert stream.lend(100 * MIB) == 8 * MIB  # read_ahead parts of 5 MiB in all
    assert stream.lend(1) == 0
    while stream.read(300_000):
        assert stream._held <= 5 * MIB
