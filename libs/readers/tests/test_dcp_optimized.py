import io
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import ObjectChangedError, ProtocolError, S3Exception
from s3torch.readers import DCPOptimizedS3Reader, ItemRange, SequentialS3Reader, UnsupportedSeekError
from s3torch.readers.constructor import DCPOptimizedConstructor

KIB = 1024
MIB = 1024 * 1024
DATA = random.Random(4).randbytes(4 * MIB)
ITEMS = [ItemRange(100, 600), ItemRange(600, 1000), ItemRange(5000, 9000), ItemRange(3 * MIB, 3 * MIB + 500)]


@pytest.fixture(params=["our stream", "iterator"])
def open_items(request: pytest.FixtureRequest, store: Any, make_source: Any) -> Any:
    def open_items(
        items: list[ItemRange] = ITEMS, data: bytes = DATA, max_gap: float = 32 * MIB
    ) -> DCPOptimizedS3Reader:
        if request.param == "iterator":
            source = make_source(data, chunk=700)
            return DCPOptimizedS3Reader("bucket", "key", items, source.info, source, max_gap)
        store.put(data)
        store.log.clear()
        constructor = DCPOptimizedConstructor(max_gap)
        constructor.set_item_ranges_by_file({"key": items})
        reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
        assert isinstance(reader, DCPOptimizedS3Reader)
        return reader

    return open_items


@pytest.mark.parametrize("max_gap", [0, 3999, 4000, 1 << 20, math.inf])
def test_items_are_read_in_order(open_items: Any, max_gap: float) -> None:
    with open_items(max_gap=max_gap) as reader:
        for item in ITEMS:
            assert reader.seek(item.start) == item.start
            assert reader.read(item.end - item.start) == DATA[item.start : item.end]
            assert reader.tell() == item.end


@pytest.mark.parametrize("seed", range(30))
def test_within_an_item_any_sequence_equals_bytesio(open_items: Any, seed: int) -> None:
    rng = random.Random(seed)
    with open_items(max_gap=rng.choice([0, 5000, math.inf])) as reader:
        for item in ITEMS:
            if rng.random() < 0.2:
                continue  # items may be left out
            model = io.BytesIO(DATA[item.start : item.end])
            reader.seek(item.start)
            for _ in range(10):
                if rng.random() < 0.5:
                    at = rng.randrange(item.end - item.start)
                    assert reader.seek(item.start + at) - item.start == model.seek(at)
                size = rng.choice([0, 1, 30, 4096])
                if model.tell() == item.end - item.start and item.end == ITEMS[1].start:
                    break  # the end of this item is the start of the next
                if rng.random() < 0.5:
                    assert reader.read(size) == model.read(size)
                else:
                    mine, its = bytearray(size), bytearray(size)
                    assert reader.readinto(mine) == model.readinto(its)
                    assert mine == its
                assert reader.tell() - item.start == model.tell()


def test_what_the_reader_cannot_do_is_refused(open_items: Any) -> None:
    with open_items() as reader:
        for size in (None, -1):
            with pytest.raises(ValueError):
                reader.read(size)
        for error in (TypeError, io.UnsupportedOperation, UnsupportedSeekError):
            with pytest.raises(error):
                reader.seek(0, io.SEEK_END)
        for whence in ("set", None):
            with pytest.raises(TypeError):
                reader.seek(0, whence)
        with pytest.raises(TypeError):
            reader.seek("0")
        with pytest.raises(TypeError):
            reader.read("1")
        with pytest.raises(TypeError):
            reader.readinto(b"read-only")
        with pytest.raises(ValueError):
            reader.seek(-1)
        with pytest.raises(ValueError):
            reader.seek(0, 7)
        assert reader.tell() == 0
        for outside in (0, 99, 1001, 4999, 9001, 4 * MIB):
            reader.seek(outside)
            with pytest.raises(ValueError):
                reader.read(1)
            with pytest.raises(ValueError):
                reader.readinto(bytearray(1))


def test_there_is_no_way_back_to_an_item_before(open_items: Any) -> None:
    with open_items() as reader:
        reader.seek(700)
        reader.seek(100)  # nothing was read yet
        assert reader.read(10) == DATA[100:110]
        reader.seek(5000)
        reader.seek(599)
        assert reader.read(100) == DATA[599:600]  # a read ends with its item
        assert reader.read(100) == DATA[600:700]
        with pytest.raises(ValueError):
            reader.seek(599)
        assert reader.seek(-100, io.SEEK_CUR) == 600
        assert reader.read(400) == DATA[600:1000]
        assert reader.read(1) == b""  # the end of an item that no other follows
        assert reader.readinto(bytearray(1)) == 0


def test_after_close_every_operation_is_a_value_error(open_items: Any) -> None:
    reader = open_items()
    reader.seek(100)
    reader.read(10)
    reader.close()
    assert reader.closed
    for call in (lambda: reader.read(1), lambda: reader.readinto(bytearray(1)), lambda: reader.seek(0), reader.tell):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("items", [[], [ItemRange(5, 9), ItemRange(0, 2)]])
def test_wrong_ranges_are_refused(items: list[ItemRange], make_source: Any) -> None:
    source = make_source(DATA)
    with pytest.raises(ValueError):
        DCPOptimizedS3Reader("bucket", "key", items, source.info, source)


@pytest.mark.parametrize(
    ("gap", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_wrong_gap_is_refused(gap: Any, error: type[Exception], make_source: Any) -> None:
    source = make_source(DATA)
    with pytest.raises(error):
        DCPOptimizedS3Reader("bucket", "key", ITEMS, source.info, source, gap)
    with pytest.raises(error):
        DCPOptimizedConstructor(gap)


@pytest.mark.parametrize(
    ("max_gap", "groups"),
    [
        (0, [(100, 1000), (5000, 9000), (3 * MIB, 3 * MIB + 500)]),
        (4000, [(100, 9000), (3 * MIB, 3 * MIB + 500)]),
        (math.inf, [(100, 3 * MIB + 500)]),
    ],
)
def test_strange_streams_are_one_for_each_group(max_gap: float, groups: list[Any], make_source: Any) -> None:
    source = make_source(DATA, chunk=512)
    with DCPOptimizedS3Reader("bucket", "key", ITEMS, source.info, source, max_gap) as reader:
        for item in ITEMS:
            reader.seek(item.start)
            reader.read(item.end - item.start)
    assert source.opened == groups
    assert source.closed == len(groups)


@pytest.mark.parametrize(
    ("max_gap", "ranges"),
    [
        (0, [(100, 1000), (5000, 9000), (3 * MIB, 3 * MIB + 500)]),
        (math.inf, [(100, 9000), (3 * MIB, 3 * MIB + 500)]),  # a gap of 3 MiB is skipped: it costs more than a request
    ],
)
def test_our_streams_fetch_items_side_by_side(store: Any, max_gap: float, ranges: list[Any]) -> None:
    store.put(DATA)
    constructor = DCPOptimizedConstructor(max_gap)
    constructor.set_item_ranges_by_file({"key": ITEMS[::-1]})
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    reader.seek(100)
    reader.read(1)
    assert store.log.ranges == ranges
    for item in ITEMS:
        reader.seek(item.start)
        assert reader.read(item.end - item.start) == DATA[item.start : item.end]
    assert (store.log.ranges, store.log.heads) == (ranges, 0)


def test_large_items_go_straight_and_memory_stays_bounded(store: Any) -> None:
    data = random.Random(5).randbytes(50 * MIB)
    store.put(data)
    items = [ItemRange(0, 20 * MIB), ItemRange(20 * MIB, 21 * MIB), ItemRange(21 * MIB + 5, 50 * MIB)]
    constructor = DCPOptimizedConstructor()
    constructor.set_item_ranges_by_file({"key": items})
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    for item in items:
        reader.seek(item.start)
        assert reader.read(30) == data[item.start : item.start + 30]
        reader.seek(item.end - 4096)
        assert reader.read(4096) == data[item.end - 4096 : item.end]
        reader.seek(item.start + 1000)
        target = bytearray(item.end - item.start - 2000)
        assert reader.readinto(target) == len(target)
        assert target == data[item.start + 1000 : item.end - 1000]
    assert store.log.fetched <= 50 * MIB
    assert store.log.heads == 0


def test_an_object_replaced_between_items_is_an_error(make_store: Any) -> None:
    store = make_store(latency=0.001, read_ahead=0)
    store.put(DATA)
    constructor = DCPOptimizedConstructor()
    constructor.set_item_ranges_by_file({"key": ITEMS})
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    reader.seek(100)
    assert reader.read(500) == DATA[100:600]
    store.put(DATA[::-1])
    reader.seek(3 * MIB)
    with pytest.raises(ObjectChangedError):
        reader.read(500)


def test_a_checkpoint_longer_than_its_object_is_an_error(store: Any) -> None:
    store.put(bytes(300))
    constructor = DCPOptimizedConstructor()
    constructor.set_item_ranges_by_file({"key": [ItemRange(0, 100), ItemRange(200, 400)]})
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    reader.seek(200)
    with pytest.raises(S3Exception):
        reader.read(200)


def test_an_iterator_that_ends_early_is_an_error() -> None:
    source: Any = lambda start, end: iter([bytes(10)])  # noqa: E731  # typed as what strangers pass
    reader = DCPOptimizedS3Reader("bucket", "key", [ItemRange(0, 100)], lambda: None, source)  # type: ignore[arg-type,return-value]  # never called
    with pytest.raises(ProtocolError):
        reader.read(100)


def test_without_ranges_the_constructor_falls_back_to_sequential(store: Any) -> None:
    constructor = DCPOptimizedConstructor()
    assert isinstance(store.client.get_object("bucket", "key", reader_constructor=constructor), SequentialS3Reader)
    constructor.set_item_ranges_by_file({"other": ITEMS, "key": []})
    assert isinstance(store.client.get_object("bucket", "key", reader_constructor=constructor), SequentialS3Reader)
    assert isinstance(store.client.get_object("bucket", "other", reader_constructor=constructor), DCPOptimizedS3Reader)
    with pytest.raises(TypeError):
        constructor.set_item_ranges_by_file({3: ITEMS})  # type: ignore[dict-item]  # the mistake under test
    with pytest.raises(ValueError):
        constructor.set_item_ranges_by_file({"key": [ItemRange(0, 5), ItemRange(4, 9)]})


@given(st.data())
def test_plans_cover_all_but_the_middle_of_large_items(data: st.DataObject) -> None:
    from s3torch.readers import dcp_optimized

    items, at = [], 0
    for gap, length in data.draw(
        st.lists(st.tuples(st.integers(0, 300 * KIB), st.integers(0, 20 * MIB)), min_size=1, max_size=6)
    ):
        items.append(ItemRange(at + gap, at + gap + length))
        at += gap + length
    max_gap = data.draw(st.sampled_from([0, 1000, math.inf]))
    plan = dcp_optimized.plan_items(items, max_gap)
    for item in items:
        if item.end - item.start <= 8 * MIB:
            inside = [(max(start, item.start), min(end, item.end)) for start, end in plan]
            assert sum(max(0, end - start) for start, end in inside) == item.end - item.start
    asked = sum(end - start for start, end in plan)
    needed = sum(min(item.end - item.start, 8 * MIB) for item in items)
    assert asked <= needed + min(max_gap, 256 * KIB) * len(items)
