import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from s3torch.readers._ahead import SEGMENT_SIZE, ReadAhead, cut_segments, subtract_ranges

RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=12).map(
    lambda pairs: sorted((start, start + length) for start, length in pairs)
)


def bytes_of(ranges: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in ranges for at in range(start, end)}


@given(RANGES, st.integers(0, 20), st.integers(1, 50))
def test_segments_cover_the_ranges(ranges: list[tuple[int, int]], max_gap: int, size: int) -> None:
    segments = cut_segments(ranges, max_gap=max_gap, size=size)
    assert bytes_of(ranges) <= bytes_of(segments)
    assert all(0 < end - start <= size for start, end in segments)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(segments))
    if max_gap == 0:
        assert bytes_of(ranges) == bytes_of(segments)


@given(RANGES, RANGES)
def test_subtracting_leaves_what_is_not_held(ranges: list[tuple[int, int]], held: list[tuple[int, int]]) -> None:
    assert bytes_of(subtract_ranges(ranges, held)) == bytes_of(ranges) - bytes_of(held)


def test_the_window_keeps_its_bound_and_uses_memory_again(store: Any) -> None:
    size = 20 * SEGMENT_SIZE + 12345
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    store.put(data)
    stream = store.client.get("bucket", "key")
    bound = stream.lend(8 * SEGMENT_SIZE)
    assert bound == 8 * SEGMENT_SIZE
    ahead = ReadAhead(stream, cut_segments([(0, size)]), bound)
    at, view, seen = 0, memoryview(bytearray(777_777)), set[int]()
    while at < size:
        count = ahead.readinto(at, view)
        assert view[:count] == memoryview(data)[at : at + count]
        at += count
        assert ahead._held + SEGMENT_SIZE * len(ahead._spare) <= bound
        seen |= {id(slot.memory) for slot in ahead._slots.values()}
    assert len(store.log.gets) == 21
    assert len(seen) <= 8 + 1  # the last, shorter segment has memory of its own
    assert (ahead._held, ahead._spare) == (0, [])


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 400)), max_size=15), st.booleans())
def test_any_order_gives_the_right_bytes(reads: list[tuple[int, int]], keep: bool) -> None:
    from s3torch.client import S3Client, S3ClientConfig
    from s3torch.client.memory import MemoryStore

    MemoryStore.named("memory://ahead")._buckets.clear()
    MemoryStore.named("memory://ahead").create_bucket("bucket")
    client = S3Client("us-east-1", endpoint="memory://ahead", s3client_config=S3ClientConfig(engine="memory"))
    data = bytes(range(250)) * 4
    client.put("bucket", "key", data)
    segments = [(start, end) for start, end in cut_segments([(100, 400), (450, 900)], size=60)]
    ahead = ReadAhead(client.get("bucket", "key"), segments, 200)
    for start, length in reads:
        view = memoryview(bytearray(length))
        count = ahead.readinto(start, view, floor=0 if keep else None)
        assert view[:count] == data[start : start + count]
        inside = next((end for begin, end in [(100, 400), (450, 900)] if begin <= start < end), start)
        assert count == min(length, inside - start)
        assert ahead._held <= 200


def test_closing_ends_what_is_in_flight(make_store: Any) -> None:
    store = make_store(latency=5.0)
    store.put(bytes(10 * SEGMENT_SIZE))
    stream = store.client.get("bucket", "key")
    ahead = ReadAhead(stream, cut_segments([(0, 10 * SEGMENT_SIZE)]), 4 * SEGMENT_SIZE)
    ahead._start_from(0)
    assert store.log.in_flight() == 4
    ahead.close()
    assert store.log.in_flight() == 0
