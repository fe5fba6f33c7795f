"""The laws of a reader that gives the items of a distributed checkpoint's file, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import AccessDeniedError, ObjectChangedError, ObjectNotFoundError
from s3torch.harness.conformance._bytes import same
from s3torch.harness.conformance._reader_laws import StoredObject
from s3torch.harness.conformance._sequences import law_settings
from s3torch.harness.conformance.arrangement import make_bytes

__all__ = ["DCPConformance", "StoreItems"]

_MIB = 1024 * 1024
_ITEMS = ((100, 5000), (5000, 7000), (20_000, 120_000), (150_000, 150_001), (199_000, 200_000))
_SIZE = 200_000


class StoreItems(Protocol):
    """How a suite stores an object of items."""

    def __call__(self, data: bytes, items: Sequence[tuple[int, int]], max_gap_size: float) -> StoredObject:
        """Store an object.

        Args:
            data: Its bytes.
            items: First byte and byte after the last of each item that its readers will give, in order.
            max_gap_size: The largest gap between two items that readers may fetch, in bytes.
        """
        ...


class DCPConformance:
    """Tests that a reader of items obeys the laws of `DCPOptimizedS3Reader`.

    Subclass it in a test module and supply one fixture; pytest runs the rest. Each test's docstring is the law it
    holds.
    """

    @pytest.fixture
    def store_items(self) -> StoreItems:
        """A function that stores bytes as an object of items."""
        raise NotImplementedError("supply the fixture 'store_items'")

    @pytest.fixture
    def examples(self) -> int:
        """How many sequences of operations are tried."""
        return 20

    @pytest.mark.parametrize("max_gap_size", [0, 20_000, float("inf")])
    def test_gives_every_item(self, store_items: StoreItems, max_gap_size: float) -> None:
        """Each item is read whole, in order, by `read` or `readinto`; `tell` is the offset in the object."""
        data = make_bytes(_SIZE)
        stored = store_items(data, _ITEMS, max_gap_size)
        with stored.open() as reader:
            for start, end in _ITEMS:
                assert reader.seek(start) == start
                assert same(reader.read(end - start), data[start:end])
                assert reader.tell() == end
        with stored.open() as reader:
            for start, end in _ITEMS:
                reader.seek(start)
                buffer = bytearray(end - start)
                assert reader.readinto(buffer) == end - start
                assert same(buffer, data[start:end])

    def test_items_may_be_left_out(self, store_items: StoreItems) -> None:
        """Items are passed over by seeking on to a later one."""
        data = make_bytes(_SIZE)
        with store_items(data, _ITEMS, 0).open() as reader:
            for start, end in _ITEMS[1::2]:
                reader.seek(start)
                assert same(reader.read(end - start), data[start:end])

    @pytest.mark.parametrize("number", [0, 2])
    def test_within_an_item_it_is_a_file(self, store_items: StoreItems, number: int, examples: int) -> None:
        """Within one item any sequence of seek, read and readinto gives what it gives on `io.BytesIO`."""
        data, (start, end) = make_bytes(_SIZE), _ITEMS[number]
        stored = store_items(data, _ITEMS, 20_000)
        size = end - start
        step = st.one_of(
            st.tuples(st.just("seek"), st.integers(0, size - 1)),
            st.tuples(st.just("read"), st.integers(0, size)),
            st.tuples(st.just("readinto"), st.integers(0, size)),
        )

        @law_settings(examples)
        @given(st.lists(step, min_size=1, max_size=10))
        def check(steps: list[tuple[str, int]]) -> None:
            model = io.BytesIO(data[start:end])
            with stored.open() as reader:
                reader.seek(start)
                for name, count in steps:
                    left = size - model.tell()
                    if name == "seek":
                        assert reader.seek(start + count) - start == model.seek(count)
                    elif name == "read":
                        # What lies behind an item is another one, or nothing that this reader gives.
                        assert same(reader.read(min(count, left)), model.read(min(count, left)))
                    else:
                        expected, found = bytearray(min(count, left)), bytearray(min(count, left))
                        assert reader.readinto(found) == model.readinto(expected)
                        assert same(found, expected)
                    assert reader.tell() - start == model.tell()

        check()

    def test_a_read_ends_with_its_item(self, store_items: StoreItems) -> None:
        """A read never goes on into the next item or the gap behind."""
        data = make_bytes(_SIZE)
        with store_items(data, _ITEMS, 0).open() as reader:
            reader.seek(100)
            assert same(reader.read(10_000), data[100:5000])
            reader.seek(20_000)
            buffer = bytearray(200_000)
            assert reader.readinto(buffer) == 100_000
            assert same(buffer[:100_000], data[20_000:120_000])
            assert not any(buffer[100_000:])

    def test_there_is_no_way_back(self, store_items: StoreItems) -> None:
        """Once a later item was read, an earlier one is `ValueError`; the reader goes on."""
        data = make_bytes(_SIZE)
        with store_items(data, _ITEMS, 0).open() as reader:
            reader.seek(20_000)
            assert reader.read(10) == data[20_000:20_010]
            with pytest.raises(ValueError):
                _seek_and_read(reader, 100)
            reader.seek(20_000)
            assert reader.read(10) == data[20_000:20_010]

    @pytest.mark.parametrize("position", [0, 99, 10_000, 130_000])
    def test_there_is_nothing_between_items(self, store_items: StoreItems, position: int) -> None:
        """Reading where no item is, is `ValueError`: a plan that does not fit fails loudly."""
        with store_items(make_bytes(_SIZE), _ITEMS, float("inf")).open() as reader, pytest.raises(ValueError):
            _seek_and_read(reader, position)

    def test_refuses_what_needs_the_whole_object(self, store_items: StoreItems) -> None:
        """Reading all and seeking from the end are refused before any request."""
        stored = store_items(make_bytes(_SIZE), _ITEMS, 0)
        stored.remove()
        with stored.open() as reader:
            reader.seek(100)
            for arguments in ((), (None,), (-1,)):
                with pytest.raises(ValueError):
                    reader.read(*arguments)
            with pytest.raises((TypeError, ValueError)):
                reader.seek(0, io.SEEK_END)
            for wrong in ("1", 1.5):
                with pytest.raises(TypeError):
                    reader.seek(wrong)
                with pytest.raises(TypeError):
                    reader.read(wrong)
            with pytest.raises(TypeError):
                reader.readinto(b"read-only")
            with pytest.raises(ValueError):
                reader.seek(-1)
            assert reader.tell() == 100

    def test_close_ends_everything(self, store_items: StoreItems) -> None:
        """After `close`, which may be called again, every use is `ValueError`."""
        reader = store_items(make_bytes(_SIZE), _ITEMS, 0).open()
        reader.seek(100)
        reader.read(10)
        reader.close()
        reader.close()
        assert reader.closed is True
        calls: list[Callable[[], object]] = [
            lambda: reader.read(1),
            lambda: reader.readinto(bytearray(1)),
            lambda: reader.seek(100),
            reader.tell,
        ]
        for call in calls:
            with pytest.raises(ValueError):
                call()

    def test_errors_keep_their_type(self, store_items: StoreItems) -> None:
        """A missing object, a refused request: each is raised as what it is."""
        stored = store_items(make_bytes(_SIZE), _ITEMS, 0)
        if stored.fail is not None and stored.heal is not None:
            stored.fail(0, AccessDeniedError("on purpose"))
            with stored.open() as reader, pytest.raises(AccessDeniedError):
                _seek_and_read(reader, 100)
            stored.heal()
        stored.remove()
        with stored.open() as reader, pytest.raises(ObjectNotFoundError):
            _seek_and_read(reader, 100)

    def test_never_mixes_two_objects(self, store_items: StoreItems) -> None:
        """An object that is replaced while its items are read is `ObjectChangedError`, or the old object is read on."""
        items = [(0, 1000), (40 * _MIB // 4, 40 * _MIB // 4 + 1000)]
        data = make_bytes(11 * _MIB)
        stored = store_items(data, items, 0)
        with stored.open() as reader:
            assert reader.read(1000) == data[:1000]
            stored.replace(make_bytes(11 * _MIB, seed=1))
            reader.seek(items[1][0])
            try:
                found = reader.read(1000)
            except ObjectChangedError:
                return
            assert found == data[items[1][0] : items[1][1]]

    def test_fetches_no_large_gap(self, store_items: StoreItems) -> None:
        """Gaps above ``max_gap_size`` are not fetched; smaller ones may be, and no byte comes twice."""
        data = make_bytes(2 * _MIB)
        items = [(0, 300_000), (310_000, 400_000), (1_500_000, 1_900_000)]
        stored = store_items(data, items, 50_000)
        if stored.fetched is None:
            pytest.skip("the bytes fetched cannot be counted here")
        before = stored.fetched()
        with stored.open() as reader:
            for start, end in items:
                reader.seek(start)
                assert same(reader.read(end - start), data[start:end])
        assert 790_000 <= stored.fetched() - before <= 800_000


def _seek_and_read(reader: Any, position: int) -> bytes:
    reader.seek(position)
    found: bytes = reader.read(10)
    return found
