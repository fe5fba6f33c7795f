"""`torch.load` from a reader: right tensors, few requests, bounded memory, and the true exception."""

import io
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.utils import _ReaderView

from s3torch.client import GetRequest, S3ConnectionError
from s3torch.readers import DCPOptimizedS3Reader, ItemRange, RangedS3Reader, S3ReaderConstructor, SequentialS3Reader

KIB = 1024
MIB = 1024 * 1024
State = dict[str, torch.Tensor]


def save(obj: object, zip_format: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(obj, out, _use_new_zipfile_serialization=zip_format)
    return out.getvalue()


def make_state(sizes: list[int]) -> State:
    generator = torch.Generator().manual_seed(0)
    return {f"w{n}": torch.rand(size, generator=generator) for n, size in enumerate(sizes)}


def load(reader: Any, **options: Any) -> State:
    loaded = torch.load(reader, map_location="cpu", weights_only=True, **options)
    assert isinstance(loaded, dict)
    return loaded


def assert_equal(loaded: State, expected: State) -> None:
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("constructor", [None, S3ReaderConstructor.range_based(), S3ReaderConstructor.range_based(0)])
def test_every_reader_loads_every_format(store: Any, constructor: Any, zip_format: bool) -> None:
    rng = random.Random(1)
    state = make_state([rng.choice([0, 1, 100, 70_000, 400_000, 2_000_000]) for _ in range(25)])
    store.put(save(state, zip_format))
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    for _ in range(2):
        reader.seek(0)
        assert_equal(load(reader), state)


def test_an_archive_behind_other_bytes_loads(store: Any) -> None:
    state = make_state([10, 500_000])
    store.put(b"head" * 100 + save(state))
    reader = store.client.get_object("bucket", "key")
    reader.seek(400)
    assert_equal(load(reader), state)


def test_an_iterator_loads(make_source: Any) -> None:
    state = make_state([10, 500_000])
    source = make_source(save(state), chunk=100_000)
    assert_equal(load(SequentialS3Reader("bucket", "key", source.info, source)), state)
    assert_equal(load(RangedS3Reader("bucket", "key", source.info, source)), state)


def test_items_of_a_distributed_checkpoint_load(store: Any) -> None:
    tensors = [torch.rand(size) for size in (1, 1000, 3_000_000, 10)]
    blobs = [save(tensor) for tensor in tensors]
    store.put(b"".join(blobs))
    items, at = [], 0
    for blob in blobs:
        items.append(ItemRange(at, at + len(blob)))
        at += len(blob)
    constructor = S3ReaderConstructor.dcp_optimized()
    constructor.set_item_ranges_by_file({"key": items})
    reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
    assert isinstance(reader, DCPOptimizedS3Reader)
    for item, tensor in zip(items, tensors, strict=True):
        view: Any = _ReaderView(reader, item.start, item.end - item.start)
        assert torch.equal(torch.load(view, weights_only=True), tensor)


class TestFetchingAhead:
    def test_many_small_tensors_take_a_few_round_trips(self, make_store: Any) -> None:
        store = make_store(latency=0.015)
        state = make_state([1000 + n for n in range(300)])
        store.put(save(state))
        reader = store.client.get_object("bucket", "key")
        before = time.perf_counter()
        loaded = load(reader)
        seconds = time.perf_counter() - before
        assert_equal(loaded, state)
        assert store.log.requests <= 6
        assert seconds < 9  # which 600 reads, one by one, would take at least

    def test_few_requests_for_tensors_of_all_sizes(self, make_store: Any) -> None:
        store = make_store(latency=0.01)
        rng = random.Random(2)
        sizes = [rng.choice([10, 1000, 50_000, 300_000, 1_000_000]) for _ in range(60)] + [6_000_000]
        rng.shuffle(sizes)
        state = make_state(sizes)
        data = save(state)
        store.put(data)
        assert_equal(load(store.client.get_object("bucket", "key")), state)
        assert store.log.fetched <= len(data) + MIB
        assert store.log.requests <= len(data) / (2 * MIB) + 25
        assert store.log.most_in_flight >= 8

    def test_large_tensors_go_straight_into_their_storage(self, store: Any) -> None:
        state = make_state([5_000_000] * 4 + [10])  # 20 MB each
        data = save(state)
        store.put(data)
        reader = store.client.get_object("bucket", "key")
        assert_equal(load(reader), state)
        assert store.log.fetched <= len(data) + MIB
        assert reader._ahead._held == 0
        # The window held headers only: nothing of a large tensor's size was fetched but into its place.
        large = [request for request in store.log.gets if (request.end or 0) - (request.start or 0) > 300 * KIB]
        assert len(large) == 4 * 10  # 20 MB in parts of 2 MiB, so that many connections share one tensor

    def test_memory_ahead_keeps_the_streams_bound(self, make_store: Any) -> None:
        store = make_store(latency=0.005, read_ahead=2)
        state = make_state([400_000] * 60)  # 1.6 MB each, 96 MB in all
        store.put(save(state))
        reader = store.client.get_object("bucket", "key")
        most = 0

        class Watched:
            def __getattr__(self, name: str) -> Any:
                nonlocal most
                if reader._ahead is not None:
                    stream, ahead = reader._stream, reader._ahead
                    most = max(most, stream._held + ahead._held + 2 * MIB * len(ahead._spare))
                return getattr(reader, name)

        assert_equal(load(Watched()), state)
        assert 4 * MIB < most <= 3 * 5 * MIB

    def test_without_read_ahead_it_still_loads(self, make_store: Any) -> None:
        store = make_store(read_ahead=0)
        state = make_state([1000, 400_000])
        store.put(save(state))
        reader = store.client.get_object("bucket", "key")
        assert_equal(load(reader), state)
        assert reader._ahead is None

    def test_loading_to_meta_fetches_no_storage(self, store: Any) -> None:
        state = make_state([3_000_000] * 10)
        store.put(save(state))
        loaded = torch.load(store.client.get_object("bucket", "key"), map_location="meta", weights_only=True)
        assert all(tensor.is_meta for tensor in loaded.values())
        assert store.log.fetched <= MIB

    def test_copying_an_archive_is_plain_reading(self, store: Any) -> None:
        data = save(make_state([100_000] * 30))
        store.put(data)
        reader = store.client.get_object("bucket", "key")
        reader.seek(0, io.SEEK_END)
        reader.seek(0)
        assert b"".join(iter(lambda: reader.read(100_000), b"")) == data
        assert reader._ahead is None

    def test_closing_in_the_middle_ends_what_is_in_flight(self, make_store: Any) -> None:
        store = make_store(latency=0.01)
        store.put(save(make_state([200_000] * 50)))
        reader = store.client.get_object("bucket", "key")
        store.log.fail = lambda request: S3ConnectionError("cut") if (request.start or 0) > 10 * MIB else None
        with pytest.raises(ConnectionError):
            load(reader)
        reader.close()
        assert store.log.in_flight() == 0


def interrupt(_request: GetRequest) -> BaseException:
    return KeyboardInterrupt()


ERRORS: dict[str, Callable[[GetRequest], BaseException]] = {
    "connection": lambda _request: S3ConnectionError("the network is gone", bucket="bucket", key="key"),
    "interrupt": interrupt,
    "other": lambda _request: ZeroDivisionError("a bug"),
}
KINDS = {
    "sequential": None,
    "ranged": S3ReaderConstructor.range_based(4096),
    "exact": S3ReaderConstructor.range_based(0),
}


class TestTheTrueException:
    @pytest.mark.parametrize("zip_format", [True, False])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("error", ERRORS)
    def test_comes_through_torch_load_whenever_it_happens(
        self, make_store: Any, kind: str, error: str, zip_format: bool
    ) -> None:
        store = make_store(read_ahead=1)
        state = make_state([100_000, 700_000, 400_000, 10])
        store.put(save(state, zip_format))
        expected = type(ERRORS[error](GetRequest("b", "k")))
        count = 0
        for good in (0, 1, 2, 3, 4, 5, 6, 8, 11, 17, 60, 1000):
            left = good

            def fail(request: GetRequest) -> BaseException | None:
                nonlocal left
                left -= 1
                return ERRORS[error](request) if left < 0 else None

            reader = store.client.get_object("bucket", "key", reader_constructor=KINDS[kind])
            store.log.fail = fail
            try:
                loaded = load(reader)
            except BaseException as raised:  # noqa: BLE001  # KeyboardInterrupt is one of them
                found: BaseException | None = raised
                if not zip_format and isinstance(raised, SystemError):
                    found = raised.__cause__  # as near as torch's loader of the old format lets it come
                assert type(found) is expected, f"{good} good requests: {raised!r}"
                count += 1
                store.log.fail = lambda _request: None
                if good in (0, 4):
                    reader.seek(0)
                    assert_equal(load(reader), state)  # the reader is not broken by it
            else:
                assert_equal(loaded, state)
        assert count >= 2

    def test_a_missing_object_is_file_not_found(self, store: Any) -> None:
        with pytest.raises(FileNotFoundError):
            load(store.client.get_object("bucket", "missing"))

    def test_control_c_while_waiting_is_keyboard_interrupt(self, make_store: Any) -> None:
        store = make_store()
        store.put(save(make_state([2_000_000] * 3)))
        reader = store.client.get_object("bucket", "key")
        waiting = threading.Event()

        def hang(request: GetRequest) -> None:
            if (request.start or 0) > 9 * MIB and (request.end or 0) < 20 * MIB:
                waiting.set()
                time.sleep(60)

        main = threading.main_thread().ident
        assert main is not None

        def press() -> None:
            if waiting.wait(60):
                time.sleep(0.05)
                signal.pthread_kill(main, signal.SIGINT)

        store.log.fail = hang
        presser = threading.Thread(target=press)
        presser.start()
        before = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            load(reader)
        presser.join()
        assert time.monotonic() - before < 50

    def test_through_a_slice_of_a_checkpoint(self, store: Any) -> None:
        blob = save(torch.rand(3_000_000))
        store.put(blob)
        for good in range(3):
            left = good

            def fail(_request: GetRequest) -> BaseException | None:
                nonlocal left
                left -= 1
                return S3ConnectionError("cut") if left < 0 else None

            constructor = S3ReaderConstructor.dcp_optimized()
            constructor.set_item_ranges_by_file({"key": [ItemRange(0, len(blob))]})
            reader = store.client.get_object("bucket", "key", reader_constructor=constructor)
            store.log.fail = fail
            view: Any = _ReaderView(reader, 0, len(blob))
            with pytest.raises(ConnectionError):
                torch.load(view, weights_only=True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_readinto_itself_raises_for_everybody_else(self, store: Any, kind: str) -> None:
        store.put(bytes(100_000))
        store.log.fail = ERRORS["connection"]
        reader = store.client.get_object("bucket", "key", reader_constructor=KINDS[kind])
        for _ in range(2):
            reader.seek(0)
            with pytest.raises(ConnectionError):
                reader.readinto(bytearray(100))
        store.log.fail = lambda _request: None
        assert reader.read(3) == bytes(3)  # nothing was held back
        store.log.fail = ERRORS["connection"]
        top = io.BufferedReader(reader, 100_000)
        top.seek(90_000)
        if kind != "sequential":  # which has buffered all of so small an object
            with pytest.raises(ConnectionError):
                top.read(100)
        top.detach()

    def test_what_was_held_back_is_raised_by_whatever_comes_next(self, store: Any) -> None:
        store.put(bytes(100_000))
        calls: list[Callable[[Any], object]] = [
            lambda reader: reader.read(1),
            lambda reader: reader.readinto(bytearray(1)),
            lambda reader: reader.seek(0),
            lambda reader: reader.tell(),
            lambda reader: reader.readable(),
            lambda reader: reader.readline(),
        ]
        for call in calls:
            reader = store.client.get_object("bucket", "key")
            reader.seek(0)
            error = reader._held_back = S3ConnectionError("cut")
            reader._is_ready = False
            with pytest.raises(S3ConnectionError) as raised:
                call(reader)
            assert raised.value is error
            assert reader.read(1) == b"\0"
        reader = store.client.get_object("bucket", "key")
        reader._held_back, reader._is_ready = S3ConnectionError("cut"), False
        reader.close()
        assert reader.closed
