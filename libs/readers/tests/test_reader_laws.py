"""What every reader owes, whatever its stream: `io.BytesIO`'s answers, io's manners, and an end."""

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from s3torch.client import ObjectChangedError
from s3torch.readers import DCPOptimizedS3Reader, ItemRange, RangedS3Reader, S3Reader, S3ReaderConstructor

SIZES = [0, 1, 999, 1000, 262_144, 262_145, 600_000, 1_500_000]
KINDS: dict[str, Callable[..., S3Reader]] = {
    "sequential": S3ReaderConstructor.sequential(),
    "ranged": S3ReaderConstructor.range_based(),
    "ranged, small buffer": S3ReaderConstructor.range_based(4096),
    "ranged, no buffer": S3ReaderConstructor.range_based(0),
}


@pytest.fixture(params=["our stream", "our stream, known size", "iterator"])
def open_any(request: pytest.FixtureRequest, store: Any, make_source: Any) -> Callable[..., S3Reader]:
    def open_any(data: bytes, constructor: Callable[..., S3Reader]) -> S3Reader:
        if request.param == "iterator":
            source = make_source(data, chunk=max(1, len(data) // 7))
            return constructor(bucket="bucket", key="key", get_object_info=source.info, get_stream=source)
        store.put(data)
        info = store.client.head_object("bucket", "key") if "known" in request.param else None
        reader = store.client.get_object("bucket", "key", object_info=info, reader_constructor=constructor)
        assert isinstance(reader, S3Reader)
        return reader

    return open_any


def random_step(rng: random.Random, size: int) -> tuple[str, int, int]:
    kind = rng.choice(["read", "readinto", "seek", "seek", "readline"])
    if kind == "seek":
        whence = rng.choice([0, 0, 1, 2])
        return kind, rng.choice([0, rng.randint(-size, size + 10), rng.randint(-50, 50)]), whence
    if kind == "readline":
        return kind, rng.choice([-1, 5, 3000]), 0
    return kind, rng.choice([-1, 0, 1, 30, 4096, 5000, 100_000, 600_000]), 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_any_sequence_equals_bytesio(open_any: Callable[..., S3Reader], kind: str, size: int) -> None:
    rng = random.Random(size)
    data = rng.randbytes(size)
    for _ in range(12):
        model = io.BytesIO(data)
        steps = []
        with open_any(data, KINDS[kind]) as reader:
            for _ in range(rng.randint(1, 12)):
                step, number, whence = random_step(rng, size)
                steps.append((step, number, whence))
                if step == "readinto":
                    mine, its = bytearray(abs(number)), bytearray(abs(number))
                    assert reader.readinto(mine) == model.readinto(its), steps
                    assert mine == its, steps
                elif step == "seek":
                    target = number + {0: 0, 1: model.tell(), 2: size}[whence]
                    if target < 0:
                        with pytest.raises(ValueError):
                            reader.seek(number, whence)
                    else:
                        assert reader.seek(number, whence) == model.seek(min(target, size)), steps
                else:
                    assert getattr(reader, step)(number) == getattr(model, step)(number), steps
                assert reader.tell() == model.tell(), steps


@pytest.mark.parametrize("kind", KINDS)
def test_io_manners(open_any: Callable[..., S3Reader], kind: str) -> None:
    reader = open_any(b"line one\nline two\n\nlast", KINDS[kind])
    assert (reader.bucket, reader.key) == ("bucket", "key")
    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    assert isinstance(reader, io.BufferedIOBase)
    assert list(reader) == [b"line one\n", b"line two\n", b"\n", b"last"]
    reader.seek(0)
    text = io.TextIOWrapper(reader, encoding="ascii")  # type: ignore[type-var]  # typeshed wants a name
    assert text.read() == "line one\nline two\n\nlast"
    text.detach()  # or it would close the reader with itself
    reader.seek(5)
    assert reader.read1(3) == b"one"
    assert reader.read1() != b""
    reader.seek(-4, io.SEEK_END)
    target = bytearray(10)
    assert reader.readinto1(target) == 4
    assert reader.read(None) == reader.read() == b""
    with pytest.raises(io.UnsupportedOperation):
        reader.write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        reader.fileno()


@pytest.mark.parametrize("kind", KINDS)
def test_a_buffered_reader_on_top_works(open_any: Callable[..., S3Reader], kind: str) -> None:
    data = random.Random(1).randbytes(50_000)
    with io.BufferedReader(open_any(data, KINDS[kind])) as top:
        assert top.read(10) == data[:10]
        top.seek(40_000)
        assert top.read() == data[40_000:]


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_buffers_are_filled(open_any: Callable[..., S3Reader], kind: str) -> None:
    data = random.Random(2).randbytes(4096)
    targets: list[Any] = [bytearray(4096), memoryview(bytearray(4096)), np.zeros((32, 32), np.float32), np.zeros(512)]
    for target in targets:
        with open_any(data, KINDS[kind]) as reader:
            assert reader.readinto(target) == 4096
            assert bytes(memoryview(target)) == data


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_fail_before_any_request(store: Any, kind: str) -> None:
    reader = store.client.get_object("bucket", "missing", reader_constructor=KINDS[kind])
    wrong: list[tuple[type[Exception], Callable[[], object]]] = [
        (TypeError, lambda: reader.read("5")),
        (TypeError, lambda: reader.read(1.0)),
        (TypeError, lambda: reader.seek("5")),
        (TypeError, lambda: reader.seek(1.5)),
        (TypeError, lambda: reader.seek(0, "end")),
        (TypeError, lambda: reader.seek(None)),
        (TypeError, lambda: reader.readinto(b"read-only")),
        (TypeError, lambda: reader.readinto(None)),
        (TypeError, lambda: reader.readinto(np.zeros((8, 8))[:, ::2])),
        (ValueError, lambda: reader.seek(-1)),
        (ValueError, lambda: reader.seek(0, 3)),
    ]
    for error, call in wrong:
        with pytest.raises(error):
            call()
    assert store.log.requests == 0
    assert reader.seek(np.int64(0)) == 0
    assert reader.read(np.int64(0)) == b""


@pytest.mark.parametrize("kind", KINDS)
def test_after_close_every_operation_is_a_value_error(open_any: Callable[..., S3Reader], kind: str) -> None:
    reader = open_any(b"0123456789", KINDS[kind])
    assert reader.read(3) == b"012"
    for _ in range(2):
        reader.close()
        assert reader.closed
    calls: list[Callable[[], object]] = [
        reader.read,
        lambda: reader.read(0),
        lambda: reader.readinto(bytearray(3)),
        lambda: reader.readinto(bytearray(0)),
        lambda: reader.seek(0),
        reader.tell,
        reader.readable,
        reader.seekable,
        reader.writable,
        reader.readline,
        reader.read1,
        reader.__enter__,
        lambda: next(reader),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert (reader.bucket, reader.key) == ("bucket", "key")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_is_forgotten_ends_its_transfers(make_store: Any, kind: str) -> None:
    store = make_store(latency=10.0)
    store.put(bytes(3_000_000))
    reader = store.client.get_object("bucket", "key", reader_constructor=KINDS[kind])
    if kind == "sequential":
        reader.prefetch()
        assert store.log.in_flight() == 1
    del reader
    assert store.log.in_flight() == 0


@pytest.mark.parametrize(
    ("bucket", "key", "error"),
    [("", "k", ValueError), ("b", "", ValueError), (1, "k", TypeError), ("b", b"k", TypeError)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_names_are_checked(bucket: Any, key: Any, error: type[Exception], kind: str, make_source: Any) -> None:
    source = make_source(b"")
    with pytest.raises(error):
        KINDS[kind](bucket=bucket, key=key, get_object_info=source.info, get_stream=source)
    with pytest.raises(TypeError):
        KINDS[kind](bucket="b", key="k", get_object_info=None, get_stream=source)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_the_store_is_the_one_that_is_raised(store: Any, kind: str) -> None:
    for call in ("read", "seek"):
        reader = store.client.get_object("bucket", "missing", reader_constructor=KINDS[kind])
        with pytest.raises(FileNotFoundError):
            getattr(reader, call)(*([5] if call == "read" else [0, 2]))
        with pytest.raises(FileNotFoundError):
            reader.readinto(bytearray(5))


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_replaced_in_the_middle_is_an_error(store: Any, kind: str) -> None:
    store.put(bytes(12_000_000))
    reader = store.client.get_object("bucket", "key", reader_constructor=KINDS[kind])
    assert len(reader.read(1_000)) == 1_000
    store.put(b"1" * 12_000_000)
    reader.seek(9_000_000)
    with pytest.raises(ObjectChangedError):
        reader.read(10)
    with pytest.raises(ObjectChangedError):
        reader.readinto(bytearray(2_500_000))


def test_a_ranged_reader_over_plain_streams_sees_the_replacement(store: Any) -> None:
    store.put(bytes(3_000_000))

    def get_stream(start: int | None = None, end: int | None = None) -> Any:
        return store.client.get("bucket", "key", start=start, end=end)

    reader = RangedS3Reader("bucket", "key", lambda: store.client.head_object("bucket", "key"), get_stream, 0)
    assert len(reader.read(1_000)) == 1_000
    store.put(b"1" * 3_000_000)
    with pytest.raises(ObjectChangedError):
        reader.read(1_000)


def test_repr_shows_the_state(store: Any) -> None:
    reader = store.client.get_object("bucket", "key")
    assert repr(reader) == "<SequentialS3Reader s3://bucket/key>"
    reader.close()
    assert repr(reader) == "<SequentialS3Reader s3://bucket/key closed>"
    assert "DCPOptimizedS3Reader" in repr(
        DCPOptimizedS3Reader("b", "k", [ItemRange(0, 1)], lambda: None, lambda: None)  # type: ignore[arg-type,return-value]  # never called
    )
