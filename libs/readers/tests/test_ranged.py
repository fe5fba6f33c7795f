import random
from typing import Any

import pytest

from s3torch.client import ProtocolError
from s3torch.readers import RangedS3Reader, S3ReaderConstructor

DATA = random.Random(3).randbytes(100_000)


@pytest.fixture
def open_ranged(store: Any) -> Any:
    store.put(DATA)
    info = store.client.head_object("bucket", "key")

    def open_ranged(buffer_size: int | None = None, known: bool = True) -> Any:
        store.log.clear()
        constructor = S3ReaderConstructor.range_based(buffer_size)
        return store.client.get_object(
            "bucket", "key", object_info=info if known else None, reader_constructor=constructor
        )

    return open_ranged


def test_without_a_buffer_each_read_is_its_exact_range(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(0)
    assert reader.read(10) == DATA[:10]
    reader.seek(500)
    assert reader.read(20) == DATA[500:520]
    target = bytearray(30)
    assert reader.readinto(target) == 30
    assert target == DATA[520:550]
    reader.seek(-5, 2)
    assert reader.read(50) == DATA[-5:]
    assert reader.read(50) == b""
    assert store.log.ranges == [(0, 10), (500, 520), (520, 550), (99_995, 100_000)]
    assert store.log.heads == 0
    assert store.log.fetched == 10 + 20 + 30 + 5


def test_small_reads_load_the_buffer_and_are_served_from_it(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(1000)
    for at in range(0, 3000, 100):
        assert reader.read(100) == DATA[at : at + 100]
    assert store.log.ranges == [(0, 1000), (1000, 2000), (2000, 3000)]
    reader.seek(2500)
    assert reader.read(100) == DATA[2500:2600]  # backwards within the buffer
    assert len(store.log.gets) == 3


def test_large_reads_go_past_the_buffer(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(1000)
    assert reader.read(10) == DATA[:10]
    reader.seek(5000)
    assert reader.read(1000) == DATA[5000:6000]
    target = bytearray(2000)
    reader.readinto(target)
    assert target == DATA[6000:8000]
    assert store.log.ranges == [(0, 1000), (5000, 6000), (6000, 8000)]
    reader.seek(10)
    assert reader.read(10) == DATA[10:20]  # the buffer is still there
    assert len(store.log.gets) == 3


@pytest.mark.parametrize("way", ["read", "readinto"])
@pytest.mark.parametrize(("size", "request_after"), [(600, (1000, 2000)), (1100, (1000, 2000)), (1700, (1000, 2200))])
def test_reads_that_begin_in_the_buffer_use_it(
    store: Any, open_ranged: Any, way: str, size: int, request_after: tuple[int, int]
) -> None:
    reader = open_ranged(1000)
    reader.read(500)
    if way == "read":
        assert reader.read(size) == DATA[500 : 500 + size]
    else:
        target = bytearray(size)
        assert reader.readinto(target) == size
        assert target == DATA[500 : 500 + size]
    assert store.log.ranges == [(0, 1000), request_after]


def test_nothing_behind_the_end_is_asked_for(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(1000)
    reader.seek(-10, 2)
    assert reader.read(100) == DATA[-10:]
    assert reader.readinto(bytearray(5000)) == 0
    assert store.log.ranges == [(99_990, 100_000)]


def test_a_size_that_is_not_known_is_not_asked_for_before_the_first_read(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(200_000, known=False)
    assert reader.read(10) == DATA[:10]
    assert reader.read() == DATA[10:]
    assert (store.log.ranges, store.log.heads) == ([(0, 200_000)], 0)
    reader = open_ranged(0, known=False)
    assert reader.read() == DATA
    assert reader.read() == b""
    assert store.log.requests == 1


def test_seeking_asks_for_the_size_once(store: Any, open_ranged: Any) -> None:
    reader = open_ranged(known=False)
    reader.seek(10)
    reader.seek(0, 2)
    reader.seek(-10, 1)
    assert (store.log.heads, store.log.gets) == (1, [])


def test_strange_streams_are_asked_for_ranges_within_the_object_and_closed(make_source: Any) -> None:
    source = make_source(DATA, chunk=300)
    reader = RangedS3Reader("bucket", "key", source.info, source, buffer_size=1000)
    reader.read(10)
    reader.seek(-100, 2)
    reader.read(10)
    assert reader.read() == DATA[-90:]
    reader.seek(0)
    assert reader.read() == DATA
    assert source.opened == [(0, 1000), (99_900, 100_000), (0, 100_000)]
    assert source.closed == 3


def test_a_stream_that_ends_early_is_an_error(make_source: Any) -> None:
    source = make_source(DATA)
    short: Any = lambda start, end: iter([b"short"])  # noqa: E731  # typed as what strangers pass
    reader = RangedS3Reader("bucket", "key", source.info, short, buffer_size=0)
    with pytest.raises(ProtocolError):
        reader.read(5000)
    with pytest.raises(ProtocolError):
        reader.readinto(bytearray(5000))


@pytest.mark.parametrize(
    ("buffer_size", "error"), [(-1, ValueError), ("8", TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_a_wrong_buffer_size_is_refused(buffer_size: Any, error: type[Exception], make_source: Any) -> None:
    source = make_source(DATA)
    with pytest.raises(error):
        RangedS3Reader("bucket", "key", source.info, source, buffer_size)
    with pytest.raises(error):
        S3ReaderConstructor.range_based(buffer_size)
