import io
import random
from typing import Any

import pytest

from s3torch.client import S3ConnectionError
from s3torch.readers import S3Reader, SequentialS3Reader

MIB = 1024 * 1024
KIB = 1024


def test_calling_the_base_gives_the_default(make_source: Any) -> None:
    source = make_source(b"abc")
    reader = S3Reader("bucket", "key", source.info, source)  # type: ignore[abstract]  # the call of the older API
    assert type(reader) is SequentialS3Reader
    assert reader.read() == b"abc"
    with pytest.raises(TypeError):
        S3Reader("bucket")  # type: ignore[abstract]  # as above


def test_a_subclass_without_methods_stays_abstract() -> None:
    class Half(S3Reader):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]  # the mistake under test


def test_opening_sends_nothing(store: Any) -> None:
    with store.client.get_object("bucket", "missing") as reader:
        assert reader.tell() == reader.seek(0) == 0
        assert reader.readable()
        assert reader.readinto(bytearray()) == 0
    assert store.log.requests == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_small_object_is_one_request(store: Any, known: bool) -> None:
    store.put(bytes(110_000))
    info = store.client.head_object("bucket", "key") if known else None
    store.log.clear()
    assert len(store.client.get_object("bucket", "key", object_info=info).read()) == 110_000
    assert store.log.requests == 1


def test_small_reads_of_a_small_object_are_one_request_and_can_be_repeated(store: Any) -> None:
    data = random.Random(1).randbytes(110_000)
    store.put(data)
    reader = store.client.get_object("bucket", "key")
    for _ in range(3):
        reader.seek(0)
        assert b"".join(iter(lambda: reader.read(777), b"")) == data
    assert store.log.requests == 1


@pytest.mark.parametrize("tail", [22, 4096, 100 * KIB])
def test_the_tail_is_fetched_without_the_object_and_without_head(store: Any, tail: int) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    store.put(data)
    reader = store.client.get_object("bucket", "key")
    assert reader.seek(-tail, io.SEEK_END) == len(data) - tail
    assert reader.read() == data[-tail:]
    assert (len(store.log.gets), store.log.heads) == (1, 0)
    assert store.log.fetched <= 256 * KIB


def test_seeking_forward_is_one_request(store: Any) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    store.put(data)
    reader = store.client.get_object("bucket", "key")
    assert reader.seek(7_000_000) == 7_000_000
    assert reader.read(100) == data[7_000_000:7_000_100]
    assert (len(store.log.gets), store.log.heads) == (1, 0)


@pytest.mark.parametrize("target", [0, 1, 5])
def test_seeking_in_an_empty_object_stays_at_its_end(store: Any, target: int) -> None:
    store.put(b"")
    reader = store.client.get_object("bucket", "key")
    assert reader.seek(target) == 0
    assert reader.seek(0, io.SEEK_END) == 0
    assert reader.read() == b""


def test_a_large_readinto_goes_straight_and_needs_no_head(store: Any) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    store.put(data)
    target = bytearray(30 * MIB)
    reader = store.client.get_object("bucket", "key")
    assert reader.readinto(target) == len(data)
    assert target[: len(data)] == data
    assert (len(store.log.gets), store.log.heads) == (9, 0)  # a part of 5 MiB, then 15 MiB in parts of 2
    assert store.log.fetched == len(data)


def test_sequential_reading_runs_ahead_in_parallel(make_store: Any) -> None:
    store = make_store(latency=0.02)
    data = random.Random(1).randbytes(30 * MIB)
    store.put(data)
    reader = store.client.get_object("bucket", "key")
    most = 0
    parts = []
    while part := reader.read(64 * KIB):
        parts.append(part)
        most = max(most, store.log.in_flight())
    assert b"".join(parts) == data
    assert most >= 3
    assert store.log.fetched == len(data)


def test_prefetch_starts_and_reading_uses_it(store: Any) -> None:
    store.put(bytes(1000))
    reader = store.client.get_object("bucket", "key")
    reader.prefetch()
    assert len(store.log.gets) == 1
    assert reader.read() == bytes(1000)
    assert len(store.log.gets) == 1
    reader.close()
    with pytest.raises(ValueError):
        reader.prefetch()


def test_closing_ends_what_is_in_flight(make_store: Any) -> None:
    store = make_store(latency=10.0)
    store.put(bytes(1000))
    reader = store.client.get_object("bucket", "key")
    reader.prefetch()
    assert store.log.in_flight() == 1
    reader.close()
    assert store.log.in_flight() == 0


def test_an_iterator_is_pulled_only_as_far_as_needed_and_closed(make_source: Any) -> None:
    source = make_source(bytes(10_000), chunk=1000)
    with SequentialS3Reader("bucket", "key", source.info, source) as reader:
        assert reader.read(1500) == bytes(1500)
        assert source.taken == 2000
        assert reader.seek(0, io.SEEK_END) == 10_000
        assert source.taken == 2000
        reader.prefetch()  # an iterator has nothing to prefetch with
    assert (source.opened, source.closed) == ([(None, None)], 1)


def test_a_broken_read_is_an_error_and_may_be_tried_again(store: Any) -> None:
    store.put(bytes(100_000))
    error = S3ConnectionError("cut")
    store.log.fail = lambda _request: error
    reader = store.client.get_object("bucket", "key")
    for read in (reader.read, lambda: reader.read(10), lambda: reader.readinto(bytearray(10))):
        with pytest.raises(ConnectionError):
            read()
    store.log.fail = lambda _request: None
    assert reader.read() == bytes(100_000)
