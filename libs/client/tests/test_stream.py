"""Streams: what they fetch, how much they hold, and that they hold to one object."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import (
    GetObjectStream,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    PutOptions,
    S3Client,
    S3ClientConfig,
)
from s3torch.client.memory import MemoryStore
from s3torch.client.parallel import plan_parts
from s3torch.harness.conformance import Recorder, law_settings, make_bytes

KIB, MIB = 1024, 1024 * 1024
FIRST_PIECE = 256 * KIB


class Place:
    """An object in memory, and a client whose requests are counted."""

    def __init__(self, data: bytes, **options: Any) -> None:
        self.endpoint = f"memory://{uuid.uuid4().hex}"
        self.store = MemoryStore.named(self.endpoint)
        self.store.create_bucket("b")
        self.put(data)
        self.recorder = Recorder("memory")
        config = S3ClientConfig(**{"part_size": 5 * MIB, "max_connections": 3, "engine": self.recorder, **options})
        self.client = S3Client(endpoint=self.endpoint, s3client_config=config)

    def put(self, data: bytes) -> None:
        self.store.write("b", "k", data, PutOptions())

    def open(self, **options: Any) -> GetObjectStream:
        return self.client.get("b", "k", **options)

    @property
    def spans(self) -> list[tuple[int | None, int | None]]:
        return [(request.start, request.end) for request in self.recorder.gets]


@pytest.mark.parametrize(
    ("start", "end", "part_size", "expected"),
    [
        (0, 10, 4, [(0, 4), (4, 8), (8, 10)]),
        (3, 11, 4, [(3, 7), (7, 11)]),
        (3, 3, 4, []),
        (0, 4, 10, [(0, 4)]),
    ],
)
def test_parts_follow_each_other(start: int, end: int, part_size: int, expected: list[tuple[int, int]]) -> None:
    assert list(plan_parts(start, end, part_size)) == expected


@pytest.mark.parametrize("position", [0, 100, 3 * MIB])
def test_a_small_read_fetches_one_small_piece(position: int) -> None:
    place = Place(make_bytes(6 * MIB))
    stream = place.open()
    stream.seek(position)
    assert stream.read(10) == make_bytes(6 * MIB)[position : position + 10]
    assert place.recorder.fetched <= FIRST_PIECE
    assert place.recorder.heads == 0


def test_the_tail_is_fetched_without_the_rest() -> None:
    data = make_bytes(40 * MIB)
    place = Place(data)
    stream = place.open()
    stream.seek(-10, io.SEEK_END)
    assert stream.read() == data[-10:]
    # What is looked for before it, as by who reads a zip archive, is there already.
    stream.seek(-100 * KIB, io.SEEK_END)
    assert stream.read() == data[-100 * KIB :]
    assert (len(place.spans), place.recorder.heads) == (1, 0)
    assert place.recorder.fetched <= FIRST_PIECE


def test_what_is_buffered_is_read_again_without_a_request() -> None:
    data = make_bytes(2 * MIB)
    place = Place(data)
    stream = place.open()
    stream.read(200 * KIB)
    before = len(place.spans)
    for offset in (0, 100 * KIB, 5):
        stream.seek(offset)
        assert stream.read(1000) == data[offset : offset + 1000]
    assert len(place.spans) == before


def test_small_reads_in_order_fetch_growing_pieces_once() -> None:
    data = make_bytes(17 * MIB)
    place = Place(data)
    stream = place.open()
    assert b"".join(iter(lambda: stream.read(70_001), b"")) == data
    assert place.recorder.fetched == len(data)
    lengths = [(end or 0) - (start or 0) for start, end in place.spans]
    assert max(lengths) <= 5 * MIB
    assert len(lengths) <= 12


def test_a_large_readinto_goes_straight_into_its_memory() -> None:
    data = make_bytes(12 * MIB)
    place = Place(data)
    stream = place.open()
    stream.read(10)
    buffer = bytearray(11 * MIB)
    assert stream.readinto(buffer) == len(buffer)
    assert buffer == data[10 : 10 + 11 * MIB]
    # The first piece was there; the rest came in parts, none of which is kept.
    assert place.recorder.fetched == FIRST_PIECE + 11 * MIB - (FIRST_PIECE - 10)
    assert stream.buffered == [(0, FIRST_PIECE)]


def test_reading_all_of_an_unknown_object_asks_for_parts_only() -> None:
    data = make_bytes(12 * MIB + 5)
    place = Place(data)
    assert place.open().read() == data
    starts, ends = zip(*sorted((start or 0, end or 0) for start, end in place.spans), strict=True)
    assert (starts[0], *ends) == (*starts, len(data))
    assert all(end - start <= 5 * MIB for start, end in zip(starts, ends, strict=True))
    assert place.recorder.heads == 0


def test_a_small_known_object_is_one_plain_get() -> None:
    # For a whole object stores return the checksum.
    place = Place(b"data")
    head = place.client.head_object("b", "k")
    assert place.client.read("b", "k", object_info=head) == b"data"
    assert place.spans == [(None, None)]


@pytest.mark.parametrize("read_ahead", [0, 1, 3])
def test_memory_is_bounded(read_ahead: int) -> None:
    data = make_bytes(60 * MIB)
    place = Place(data, read_ahead=read_ahead)
    stream = place.open()
    most, position = 0, 0
    while piece := stream.read(300_000):
        assert piece == data[position : position + len(piece)]
        position += len(piece)
        most = max(most, sum(end - start for start, end in stream.buffered))
    assert position == len(data)
    assert most <= (read_ahead + 1) * 5 * MIB


def test_prefetching_is_bounded_and_used() -> None:
    data = make_bytes(30 * MIB)
    place = Place(data, read_ahead=1)
    stream = place.open()
    stream.prefetch([(0, 1000), (5 * MIB, 6 * MIB), (10 * MIB, 29 * MIB)])
    assert place.spans == [(0, 1000), (5 * MIB, 6 * MIB)]
    assert stream.read(1000) == data[:1000]
    stream.seek(5 * MIB)
    assert stream.read(MIB) == data[5 * MIB : 6 * MIB]
    assert len(place.spans) == 2


def test_prefetching_behind_the_end_harms_nothing() -> None:
    place = Place(make_bytes(500))
    stream = place.open()
    stream.prefetch([(1000, 2000), (100, 900)])
    assert stream.read() == make_bytes(500)
    stream.seek(0)
    stream.prefetch([(400, 9000), (600, 700)])
    assert stream.read(10_000) == make_bytes(500)


@pytest.mark.parametrize("call", [lambda s: s.read(), lambda s: s.read(MIB), lambda s: s.readinto(bytearray(2 * MIB))])
def test_a_replaced_object_is_noticed(call: Any) -> None:
    place = Place(make_bytes(3 * MIB), read_ahead=0)
    stream = place.open()
    stream.read(10)
    place.put(make_bytes(3 * MIB, seed=1))
    stream.seek(MIB)
    with pytest.raises(ObjectChangedError):
        call(stream)


def test_what_a_listing_told_pins_the_object() -> None:
    place = Place(b"first")
    [info] = next(place.client.list_objects("b")).object_info
    place.put(b"other")
    calls: list[Callable[[GetObjectStream], object]] = [
        lambda s: s.read(),
        lambda s: s.read(2),
        lambda s: s.readinto(bytearray(9)),
    ]
    for call in calls:
        with pytest.raises(ObjectChangedError):
            call(place.open(object_info=info))


def test_a_known_empty_object_is_still_asked_for() -> None:
    place = Place(b"")
    [info] = next(place.client.list_objects("b")).object_info
    assert place.client.read("b", "k", object_info=info) == b""
    place.store.remove("b", ["k"])
    with pytest.raises(ObjectNotFoundError):
        place.client.read("b", "k", object_info=info)


@pytest.mark.parametrize("known", [False, True])
def test_a_stream_that_begins_behind_the_end_is_at_its_end(known: bool) -> None:
    place = Place(b"data")
    info = place.client.head_object("b", "k") if known else None
    calls: list[Callable[[GetObjectStream], object]] = [
        lambda s: s.read(),
        lambda s: s.read(5),
        lambda s: s.read(MIB),
        lambda s: bytes(s.readinto(bytearray(5))),
        lambda s: bytes(s.readinto(bytearray(MIB))),
        lambda s: b"".join(s),
    ]
    for call in calls:
        assert call(place.open(start=100, object_info=info)) == b""
        assert call(place.open(start=4, object_info=info)) == b""


def test_reading_behind_the_end_outside_of_a_stream_is_an_error() -> None:
    place = Place(b"data")
    with pytest.raises(InvalidRangeError):
        place.client.read("b", "k", start=4)


def test_a_closed_stream_refuses() -> None:
    place = Place(b"data")
    stream = place.open()
    stream.prefetch()
    stream.close()
    stream.close()
    for call in (stream.read, lambda: stream.readinto(bytearray(1)), lambda: next(stream), stream.prefetch):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "closed" in repr(stream)


@pytest.mark.parametrize("known", [False, True])
def test_any_window_of_an_object_is_a_file_of_its_own(known: bool) -> None:
    data = make_bytes(1_300_000)
    place = Place(data, read_ahead=1)
    info = place.client.head_object("b", "k") if known else None
    near = st.one_of(st.integers(0, 1_400_000), st.sampled_from([0, 1, FIRST_PIECE, 512 * KIB, 1_299_999, 1_300_000]))

    @law_settings(60)
    @given(st.data())
    def check(draw: st.DataObject) -> None:
        start, length = draw.draw(near), draw.draw(near)
        end = draw.draw(st.sampled_from([None, start + length + 1]))
        window = data[start:end]
        with place.open(start=start, end=end, object_info=info) as stream:
            model, base = io.BytesIO(window), start
            for name, number in draw.draw(
                st.lists(st.tuples(st.sampled_from(["seek", "read", "readinto", "prefetch", "next"]), near), max_size=8)
            ):
                if name == "seek":
                    target = min(number, len(window))
                    model.seek(target)
                    assert stream.seek(base + number) == base + target
                elif name == "read":
                    assert stream.read(number) == model.read(number)
                elif name == "readinto":
                    expected, found = bytearray(number), bytearray(number)
                    assert stream.readinto(found) == model.readinto(expected)
                    assert found == expected
                elif name == "prefetch":
                    stream.prefetch([(base + number, base + number + 1000), (base, base + 10)])
                else:
                    piece = next(stream, b"")
                    assert piece == model.read(len(piece))
                    assert piece or not model.read(1)
                assert stream.tell() == base + model.tell()
            rest = model.read()
            assert stream.read() == rest

    check()
