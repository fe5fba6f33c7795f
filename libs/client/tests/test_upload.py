"""Uploads over an engine whose network has a speed, on a clock that the test owns."""

from __future__ import annotations

import array
import gc
import os
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import (
    ObjectNotFoundError,
    PartResult,
    PreconditionFailedError,
    PutOptions,
    PutResult,
    S3Client,
    S3ClientConfig,
    S3Exception,
    ServerError,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Body, EngineContext, Transfer
from s3torch.client.transfers import run_now
from s3torch.client.upload import PutObjectStream

MIB = 1024**2
PART = 5 * MIB
BUCKET = "bucket"
KEY = "folder/key"


class Network:
    """An engine in memory whose parts take time, and that fails where it is told to."""

    def __init__(self, *, bytes_per_second: float = 100e9, latency: float = 0.0) -> None:
        self.store = MemoryStore()
        self.store.create_bucket(BUCKET)
        self.inner = MemoryEngine(EngineContext("us-east-1", None, "test", S3ClientConfig()), self.store)
        self.bytes_per_second = bytes_per_second
        self.latency = latency
        self.now = 0.0
        self.calls: list[str] = []
        self.bodies: dict[int, list[memoryview]] = {}
        self.flying: list[Flight] = []
        self.most_flying = 0
        self.moved = 0
        self.failures: dict[str, BaseException] = {}

    def clock(self) -> float:
        return self.now

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> Transfer[PutResult]:
        self.note("put")
        return self.inner.start_put(bucket, key, body, options)

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        self.note("create")
        return self.inner.create_multipart(bucket, key, options)

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Transfer[PartResult]:
        self.note("start part")
        self.bodies[number] = list(body)
        flight = Flight(self, body, lambda body: self.arrive(bucket, key, upload_id, number, body))
        self.flying.append(flight)
        self.most_flying = max(self.most_flying, len(self.flying))
        return flight

    def arrive(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartResult:
        self.note(f"part {number}")
        return self.inner.start_part(bucket, key, upload_id, number, body).result()

    def copy_part(self, *arguments: object) -> PartResult:
        raise NotImplementedError

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        self.note("complete")
        return self.inner.complete_multipart(bucket, key, upload_id, parts, options)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self.note("abort")
        self.inner.abort_multipart(bucket, key, upload_id)

    def note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failures:
            raise self.failures[call]

    def data(self, key: str = KEY) -> bytes:
        return self.store.find(BUCKET, key).data

    def is_clean(self) -> bool:
        return not self.store.uploads(BUCKET) and not self.store.objects(BUCKET) and not self.flying


class Flight:
    """A part that arrives at a time, if somebody waits."""

    def __init__(self, network: Network, body: Body, arrive: Callable[[Body], PartResult]) -> None:
        self.network = network
        self.body = body
        self.arrive = arrive
        size = sum(piece.nbytes for piece in body)
        self.due = network.now + network.latency + size / network.bytes_per_second
        self.outcome: Transfer[PartResult] | None = None

    def done(self) -> bool:
        return self.outcome is not None

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        while not self.done() and not (until is not None and until()):
            self.network.now = max(self.network.now, min(flight.due for flight in self.network.flying))
            self.advance()

    def advance(self, seconds: float = 0.0) -> None:
        network = self.network
        if network.flying:
            due = min(flight.due for flight in network.flying)
            network.now = min(max(network.now, due), network.now + seconds)
        else:
            network.now += seconds
        for flight in [flight for flight in network.flying if flight.due <= network.now]:
            network.flying.remove(flight)
            flight.outcome = run_now(lambda flight=flight: flight.arrive(flight.body))  # type: ignore[misc]  # a lambda's default

    def result(self) -> PartResult:
        self.wait()
        assert self.outcome is not None
        return self.outcome.result()

    def cancel(self) -> None:
        if not self.done():
            if self in self.network.flying:
                self.network.flying.remove(self)
            self.outcome = run_now(lambda: self.fail())

    def fail(self) -> PartResult:
        raise S3Exception("cancelled")

    def rebase(self, body: Body) -> None:
        if not self.done():
            assert b"".join(body) == b"".join(self.body)
            self.network.moved += 1
            self.body = body


def config(**options: int) -> S3ClientConfig:
    return S3ClientConfig(part_size=PART, engine="memory", **{"max_connections": 4, **options})  # type: ignore[arg-type]  # only numbers


def open_stream(network: Network, options: PutOptions | None = None, **numbers: int) -> PutObjectStream:
    return PutObjectStream(network, config(**numbers), BUCKET, KEY, options, clock=network.clock)


def pattern(size: int) -> bytearray:
    return bytearray(os.urandom(min(size, 4096)) * (size // 4096 + 1))[:size]


SIZES = st.one_of(
    st.integers(0, 300 * 1024),
    st.sampled_from([PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 17, PART // 2]),
)


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.tuples(SIZES, st.booleans()), max_size=8),
    speed=st.sampled_from([1e7, 1e9, 1e11]),
    buffers=st.integers(1, 4),
    connections=st.integers(1, 5),
)
def test_any_writes_make_the_object_and_leave_the_callers_memory_alone(
    pieces: list[tuple[int, bool]], speed: float, buffers: int, connections: int
) -> None:
    network = Network(bytes_per_second=speed, latency=0.02)
    expected = bytearray()
    with open_stream(network, upload_buffers=buffers, max_connections=connections) as stream:
        for size, is_lent in pieces:
            data = pattern(size)
            expected += data
            assert (stream.lend if is_lent else stream.write)(data) == size
            assert stream.tell() == len(expected)
            if not is_lent:
                data[:] = bytes(size)  # what is still read from it now would be wrong
            assert stream._buffers._in_use + len(stream._buffers._free) <= buffers
    assert network.data() == expected
    assert network.most_flying <= connections
    if len(expected) <= PART:
        assert network.calls == ["put"]
    else:
        lengths = [sum(piece.nbytes for piece in body) for _, body in sorted(network.bodies.items())]
        assert set(lengths[:-1]) <= {PART}
        assert 0 < lengths[-1] <= PART
    assert not network.store.uploads(BUCKET)


def test_large_writes_are_sent_from_the_callers_memory() -> None:
    network = Network()
    first, second = pattern(1000), pattern(4 * PART)
    with open_stream(network) as stream:
        stream.write(first)
        stream.write(second)
    assert network.moved == 0
    for number in (2, 3, 4):
        (piece,) = network.bodies[number]
        assert piece.obj is second
    prefix, piece = network.bodies[1]
    assert prefix.nbytes == 1000
    assert piece.obj is second
    assert network.data() == first + second


def test_lent_memory_is_neither_copied_nor_waited_for() -> None:
    network = Network(bytes_per_second=1e6, latency=1.0)
    lent = [pattern(size) for size in (PART // 2, PART, PART // 2 + 7)]
    stream = open_stream(network, upload_buffers=1)
    for data in lent:
        stream.lend(data)
    assert network.now == 0
    assert [piece.obj for piece in network.bodies[1]] == lent[:2]
    assert all(piece.obj is lent[1] for piece in network.bodies[1][1:])
    stream.close()
    assert network.moved == 0
    assert network.data() == b"".join(lent)


def test_what_is_lent_in_pieces_keeps_all_connections_busy() -> None:
    network = Network(latency=0.05)
    with open_stream(network, max_connections=7, upload_buffers=1) as stream:
        for _ in range(40):
            stream.lend(pattern(PART // 2))
    assert network.most_flying == 7


def test_written_pieces_between_lent_ones_are_moved_from_the_callers_memory() -> None:
    network = Network(bytes_per_second=1e6)
    lent, written = pattern(PART // 2), pattern(PART)
    expected = bytes(lent + written)
    stream = open_stream(network)
    stream.lend(lent)
    stream.write(written)
    assert network.moved == 1
    written[:] = bytes(PART)
    stream.close()
    assert network.data() == expected


def test_what_is_lent_is_held_no_longer_than_its_bytes_need() -> None:
    network = Network()
    stream = open_stream(network)
    for _ in range(3):
        data = memoryview(pattern(3 * PART))
        stream.lend(data)
    stream.close()
    assert stream._pieces == []
    assert stream._flying == []


@pytest.mark.parametrize("size", [10, PART, 3 * PART])
def test_what_is_lent_fails_as_what_is_written(size: int) -> None:
    network = Network()
    network.failures["put" if size <= PART else "part 2"] = ServerError("the store failed")
    stream = open_stream(network)

    def send() -> None:
        stream.lend(pattern(size))
        stream.close()

    with pytest.raises(ServerError):
        send()
    assert network.is_clean()
    with pytest.raises((ServerError, ValueError)):
        stream.lend(b"more")


def test_a_large_write_keeps_all_connections_busy() -> None:
    network = Network(latency=0.05)
    with open_stream(network, max_connections=7) as stream:
        stream.write(pattern(20 * PART))
    assert network.most_flying == 7


def test_a_fast_network_is_waited_for_and_a_slow_one_is_not() -> None:
    fast = Network(bytes_per_second=3e9)
    with open_stream(fast) as stream:
        stream.write(pattern(2 * PART + 1))
    assert fast.moved == 0

    slow = Network(bytes_per_second=1e6, latency=1.0)
    stream = open_stream(slow)
    stream.write(pattern(2 * PART + 1))
    assert slow.moved == 2
    assert slow.now < 0.1  # the caller has gone on long before the parts arrive
    stream.close()
    assert slow.now > 1
    assert len(slow.data()) == 2 * PART + 1


def test_without_buffers_to_spare_a_slow_network_is_waited_for() -> None:
    network = Network(bytes_per_second=1e6)
    with open_stream(network, upload_buffers=1) as stream:
        data = pattern(3 * PART + 5)
        stream.write(data)
        assert network.now > 1
    assert network.data() == data


def test_small_writes_drive_the_parts_in_flight() -> None:
    network = Network(bytes_per_second=1e8)
    stream = open_stream(network)
    stream.write(pattern(PART + 1))
    assert network.flying
    network.now += 1
    for _ in range(40):
        stream.write(bytes(16 * 1024))
    assert not network.flying
    stream.close()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_what_fits_one_part_is_one_put(size: int) -> None:
    network = Network()
    data = pattern(size)
    with open_stream(network) as stream:
        stream.write(data)
    assert network.calls == ["put"]
    assert network.data() == data
    assert stream.result is not None
    assert stream.result.etag == network.store.find(BUCKET, KEY).etag


def test_the_upload_begins_with_the_first_full_part() -> None:
    network = Network()
    with open_stream(network) as stream:
        stream.write(pattern(PART))
        assert network.calls == []
        stream.write(b"x")
        stream.write(pattern(PART))
        assert network.calls[0] == "create"
    assert network.calls.count("create") == 1
    assert network.calls[-1] == "complete"


@pytest.mark.parametrize("stage", ["create", "start part", "part 1", "part 2", "complete", "put"])
def test_an_error_at_any_stage_leaves_nothing_and_stays_the_error(stage: str) -> None:
    network = Network(latency=0.01)
    true_error = ServerError("the store failed", operation="test")
    network.failures[stage] = true_error
    stream = open_stream(network)

    def run() -> None:
        stream.write(pattern(100 if stage == "put" else 3 * PART))
        stream.close()

    with pytest.raises(ServerError) as caught:
        run()
    assert caught.value is true_error
    assert network.is_clean()
    with pytest.raises(ServerError):
        stream.write(b"more")
    before = list(network.calls)
    if not stream.closed:
        with pytest.raises(ServerError):
            stream.close()
    stream.close()
    stream.abort()
    assert network.calls == before  # nothing is tried again, nor aborted twice
    assert network.calls.count("abort") == (0 if stage in ("create", "put") else 1)


def test_a_failing_abort_does_not_hide_the_error(caplog: pytest.LogCaptureFixture) -> None:
    network = Network()
    network.failures = {"part 1": ServerError("first"), "abort": ServerError("second")}
    stream = open_stream(network)
    with pytest.raises(ServerError, match="first"):
        stream.write(pattern(2 * PART))
    assert "may remain" in caplog.text


def test_an_interrupt_cancels_what_reads_the_callers_memory() -> None:
    network = Network(latency=0.01)
    network.failures["part 2"] = KeyboardInterrupt()
    stream = open_stream(network)
    with pytest.raises(KeyboardInterrupt):
        stream.write(pattern(4 * PART))
    assert network.is_clean()


def test_abort_and_an_exception_in_the_block_leave_nothing() -> None:
    network = Network(bytes_per_second=1e6)
    stream = open_stream(network)
    stream.write(pattern(2 * PART))
    stream.abort()
    stream.close()
    assert network.is_clean()
    with pytest.raises(ValueError, match="closed"):
        stream.write(b"x")

    def fail() -> None:
        with open_stream(network) as stream:
            stream.write(pattern(2 * PART + 9))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert network.is_clean()


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_a_stream_dropped_without_close_publishes_nothing(size: int, caplog: pytest.LogCaptureFixture) -> None:
    network = Network(bytes_per_second=1e6)
    stream = open_stream(network)
    stream.write(pattern(size))
    del stream
    gc.collect()
    assert network.is_clean()
    assert "put" not in network.calls
    assert "never closed" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_upload_alone() -> None:
    network = Network()
    stream = open_stream(network)
    stream.write(pattern(2 * PART))
    child = os.fork()
    if not child:
        del stream
        gc.collect()
        os._exit(1 if "abort" in network.calls else 0)
    assert os.waitpid(child, 0)[1] == 0
    stream.close()
    assert len(network.data()) == 2 * PART


def test_close_twice_is_close_once() -> None:
    network = Network()
    stream = open_stream(network)
    stream.write(b"abc")
    stream.close()
    stream.close()
    assert network.calls == ["put"]
    with pytest.raises(ValueError, match="closed"):
        stream.write(b"x")


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_create_only_refuses_to_replace(size: int) -> None:
    network = Network()
    network.inner.start_put(BUCKET, KEY, [memoryview(b"old")], PutOptions()).result()
    stream = open_stream(network, PutOptions(if_none_match=True))
    stream.write(pattern(size))
    with pytest.raises(PreconditionFailedError):
        stream.close()
    assert network.data() == b"old"
    assert not network.store.uploads(BUCKET)


def test_a_failed_overwrite_leaves_the_old_object() -> None:
    network = Network()
    network.inner.start_put(BUCKET, KEY, [memoryview(b"old")], PutOptions()).result()
    network.failures["complete"] = ServerError("late")
    stream = open_stream(network)
    stream.write(pattern(2 * PART))
    with pytest.raises(ServerError):
        stream.close()
    assert network.data() == b"old"


def test_memory_of_any_format_is_taken() -> None:
    numpy = pytest.importorskip("numpy")
    network = Network()
    parts = [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"view")[1:3],
        array.array("d", [1.5, 2.5]),
        memoryview(bytes(range(24))).cast("B", shape=[2, 3, 4]),
        memoryview(b"\x00\x01").cast("?"),
        numpy.arange(6, dtype=">i4").reshape(2, 3),
        numpy.array([1 + 2j, 3 - 1j]),
        numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        numpy.zeros((0, 3)),
        b"",
    ]
    with open_stream(network) as stream:
        for part in parts:
            assert stream.write(part) == memoryview(part).nbytes
        assert stream.tell() == sum(memoryview(part).nbytes for part in parts)
        with pytest.raises(ValueError, match="contiguous"):
            stream.write(memoryview(b"abcdef")[::2])
        with pytest.raises(TypeError):
            stream.write("text")  # type: ignore[arg-type]  # the mistake under test
    assert network.data() == b"".join(memoryview(part).tobytes() for part in parts)


def test_a_declared_size_is_held_to() -> None:
    network = Network()
    stream = PutObjectStream(network, config(), BUCKET, KEY, size=10)
    with pytest.raises(ValueError, match="10 bytes"):
        stream.write(bytes(11))
    stream.write(bytes(9))
    with pytest.raises(ValueError, match="9 were written"):
        stream.close()
    assert network.is_clean()


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART, 3 * PART + 7])
def test_put_sends_large_data_in_parts_without_a_copy(size: int) -> None:
    network = Network(latency=0.01)

    def engine(context: EngineContext) -> Network:
        return network

    client = S3Client("us-east-1", s3client_config=S3ClientConfig(part_size=PART, max_connections=3, engine=engine))  # type: ignore[arg-type]  # only what an upload needs
    data = pattern(size)
    result = client.put(BUCKET, KEY, data)
    assert network.data() == data
    assert result.etag == network.store.find(BUCKET, KEY).etag
    assert ("put" in network.calls) == (size <= PART)
    for body in network.bodies.values():
        assert [piece.obj for piece in body] == [data]


def test_put_that_fails_leaves_nothing() -> None:
    network = Network()
    network.failures["part 2"] = ServerError("no")

    def engine(context: EngineContext) -> Network:
        return network

    client = S3Client("us-east-1", s3client_config=S3ClientConfig(part_size=PART, engine=engine))  # type: ignore[arg-type]  # only what an upload needs
    with pytest.raises(ServerError, match="no"):
        client.put(BUCKET, KEY, bytes(3 * PART))
    assert network.is_clean()


def test_a_bucket_that_is_not_there_is_told_by_the_first_request() -> None:
    client = S3Client("us-east-1", endpoint="memory://none", s3client_config=S3ClientConfig(engine="memory"))
    stream = client.put_stream("no-such-bucket", KEY)
    stream.write(b"x")
    with pytest.raises(FileNotFoundError):
        stream.close()


def test_wrong_arguments_fail_before_any_request() -> None:
    client = S3Client("us-east-1", s3client_config=S3ClientConfig(engine="memory"))
    with pytest.raises(ValueError, match="bucket"):
        client.put_stream("", KEY)
    with pytest.raises(ValueError, match="key"):
        client.put_stream(BUCKET, "")
    with pytest.raises(TypeError):
        client.put_stream(BUCKET, 1)  # type: ignore[arg-type]  # the mistake under test


def test_repr_tells_the_state() -> None:
    network = Network()
    stream = open_stream(network)
    stream.write(pattern(2 * PART + 3))
    assert "open at 10485763, 2 parts arrived, 0 in flight" in repr(stream)
    stream.abort()
    assert "closed" in repr(stream)
    with pytest.raises(ObjectNotFoundError):
        network.inner.head(BUCKET, KEY)
