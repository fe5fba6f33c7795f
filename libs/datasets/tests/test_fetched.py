from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from s3torch.client import (
    EngineContext,
    ObjectChangedError,
    ObjectInfo,
    ObjectNotFoundError,
    S3BucketKeyData,
    S3ClientConfig,
)
from s3torch.datasets._fetched import FetchedObject
from s3torch.datasets._window import FetchPlan

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, RecordingEngine

DATA = bytes(range(256)) * 12


def fetch(place: Place, *, known: bool, key: str = "key") -> tuple[FetchedObject, RecordingEngine]:
    config = S3ClientConfig()
    engine = place.engine(EngineContext("us-east-1", None, "test", config))
    info = None
    if known:
        found = place.store.find(place.bucket, key)
        info = ObjectInfo(key, found.etag, len(found.data), found.last_modified)
    item = S3BucketKeyData(place.bucket, key, info)
    request, _ = FetchPlan(config.part_size)(item)
    assert request is not None
    return FetchedObject(engine, config, item, engine.start_get(request)), engine


@pytest.mark.parametrize("known", [True, False])
def test_streams_of_what_is_here_send_nothing(memory: Place, known: bool) -> None:
    memory.fill({"key": DATA})
    fetched, _ = fetch(memory, known=known)
    assert fetched().read() == DATA
    assert b"".join(fetched()) == DATA
    assert fetched(10, 300).read() == DATA[10:300]
    assert fetched(3000).read() == DATA[3000:]
    assert fetched(None, 5).read() == DATA[:5]
    stream = fetched()
    stream.seek(-7, 2)
    assert stream.read() == DATA[-7:]
    stream.seek(100)
    buffer = bytearray(50)
    assert stream.readinto(buffer) == 50
    assert buffer == DATA[100:150]
    assert fetched.get_object_info().size == len(DATA)
    assert fetched.get_object_info().etag == memory.store.find(memory.bucket, "key").etag
    assert memory.asked == ["get key"]


def test_a_whole_read_hands_out_the_bytes_that_arrived(memory: Place) -> None:
    memory.fill({"key": DATA})
    fetched, engine = fetch(memory, known=True)
    data = fetched().read()
    assert data == DATA
    assert data is engine.flying[0].result().data
    assert fetched.get_object_info().size == len(DATA)


def test_streams_of_whole_objects_stay_within_them(memory: Place) -> None:
    memory.fill({"key": DATA})
    fetched, _ = fetch(memory, known=True)
    stream = fetched()
    assert stream.seek(10**6) == len(DATA)
    assert stream.read() == b""
    assert stream.seek(5, 2) == len(DATA)
    assert stream.seek(-1, 1) == len(DATA) - 1
    assert stream.read() == DATA[-1:]
    with pytest.raises(ValueError):
        stream.seek(-1)
    stream.seek(7)
    assert [*stream] == [DATA[7:]]
    assert [*stream] == []


def test_large_reads_of_what_is_here_are_filled_in_place(memory: Place) -> None:
    data = DATA * 200
    memory.fill({"key": data})
    fetched, _ = fetch(memory, known=True)
    buffer = bytearray(len(data) - 1)
    stream = fetched(1)
    assert stream.readinto(buffer) == len(buffer)
    assert buffer == data[1:]
    assert memory.asked == ["get key"]


def test_the_rest_of_a_large_object_comes_from_the_store(memory: Place) -> None:
    data = DATA * 1000
    memory.fill({"key": data})
    fetched, engine = fetch(memory, known=False)
    assert fetched.get_object_info().size == len(data)
    assert fetched().read() == data
    assert engine.requests[0].end == 2**20
    assert all((request.start or 0) >= 2**20 for request in engine.requests[1:])


def test_an_object_replaced_since_is_an_error_and_no_mixture(memory: Place) -> None:
    data = DATA * 1000
    memory.fill({"key": data})
    fetched, _ = fetch(memory, known=False)
    memory.fill({"key": data[::-1]})
    with pytest.raises(ObjectChangedError):
        fetched().read()


def test_an_empty_object_of_unknown_size_reads_as_empty(memory: Place) -> None:
    memory.fill({"key": b""})
    fetched, _ = fetch(memory, known=False)
    assert fetched().read() == b""
    assert list(fetched()) == []
    assert fetched.get_object_info().size == 0


def test_an_error_is_raised_by_each_read(memory: Place) -> None:
    fetched, _ = fetch(memory, known=False)
    for _ in range(2):
        with pytest.raises(ObjectNotFoundError):
            fetched().read()
        with pytest.raises(ObjectNotFoundError):
            fetched(5, 10).read()
        with pytest.raises(ObjectNotFoundError):
            fetched.get_object_info()
