from __future__ import annotations

import io
from typing import Any

import pytest

from s3torch.client import PutOptions, S3ClientConfig, ServerError
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Body, EngineContext
from s3torch.client.transfers import DoneTransfer
from s3torch.client.values import PartResult, PutResult
from s3torch.writer import S3Writer, WriterClient, open_writer

MIB = 1024**2
PART = 5 * MIB
BUCKET = "bucket"
KEY = "model.pt"


class FailingEngine(MemoryEngine):
    """Fails the part, or the single PUT, that it is told to."""

    def __init__(self, context: EngineContext, store: MemoryStore, failing_part: int) -> None:
        super().__init__(context, store)
        self.failing_part = failing_part
        self.error = ServerError("the store failed", operation="UploadPart")

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> DoneTransfer[PartResult]:
        if number == self.failing_part:
            return DoneTransfer(error=self.error)
        return super().start_part(bucket, key, upload_id, number, body)

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> DoneTransfer[PutResult]:
        if self.failing_part == 0:
            return DoneTransfer(error=self.error)
        return super().start_put(bucket, key, body, options)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.create_bucket(BUCKET)
    return store


def make_client(store: MemoryStore, failing_part: int = -1) -> WriterClient:
    def engine(context: EngineContext) -> FailingEngine:
        return FailingEngine(context, store, failing_part)

    return WriterClient("us-east-1", s3client_config=S3ClientConfig(part_size=PART, engine=engine))


def is_clean(store: MemoryStore) -> bool:
    return not store.uploads(BUCKET) and not store.objects(BUCKET)


def test_it_is_a_writable_binary_file(store: MemoryStore) -> None:
    with make_client(store).put_object(BUCKET, KEY) as writer:
        assert isinstance(writer, io.BufferedIOBase)
        assert (writer.writable(), writer.readable(), writer.seekable()) == (True, False, False)
        assert writer.write(b"abc") == 3
        assert writer.write(memoryview(b"abcdefgh").cast("d")) == 8
        writer.writelines([b"x", b"y"])
        writer.flush()
        assert writer.tell() == 13
        assert not store.objects(BUCKET)
        with pytest.raises(io.UnsupportedOperation):
            writer.read()
    assert writer.closed
    assert store.find(BUCKET, KEY).data == b"abcabcdefghxy"


def test_close_twice_is_close_once_and_ends_writing(store: MemoryStore) -> None:
    writer = make_client(store).put_object(BUCKET, KEY)
    writer.write(b"abc")
    writer.close()
    writer.close()
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"d")
    with pytest.raises(ValueError, match="closed"):
        writer.__enter__()
    assert store.find(BUCKET, KEY).data == b"abc"


def test_the_first_error_is_every_later_error(store: MemoryStore) -> None:
    writer = make_client(store, failing_part=2).put_object(BUCKET, KEY)
    with pytest.raises(ServerError) as first:
        writer.write(bytes(3 * PART))
    with pytest.raises(ServerError) as second:
        writer.write(b"x")
    with pytest.raises(ServerError) as third:
        writer.close()
    assert first.value is second.value is third.value
    writer.close()
    assert writer.closed
    assert is_clean(store)


def test_an_error_when_closing_leaves_nothing(store: MemoryStore) -> None:
    writer = make_client(store, failing_part=0).put_object(BUCKET, KEY)
    writer.write(b"x")
    with pytest.raises(ServerError):
        writer.close()
    assert writer.closed
    assert is_clean(store)


def test_what_a_library_made_of_the_error_gives_way_to_the_error(store: MemoryStore) -> None:
    def like_torch(writer: S3Writer) -> None:
        try:
            writer.write(bytes(3 * PART))
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    def save() -> None:
        with make_client(store, failing_part=1).put_object(BUCKET, KEY) as writer:
            like_torch(writer)

    with pytest.raises(ServerError) as caught:
        save()
    assert caught.value.__suppress_context__
    assert is_clean(store)


def test_an_error_that_has_nothing_to_do_with_the_store_stays(store: MemoryStore) -> None:
    def save() -> None:
        with make_client(store, failing_part=1).put_object(BUCKET, KEY) as writer:
            with pytest.raises(ServerError):
                writer.write(bytes(3 * PART))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        save()
    assert is_clean(store)


def test_bad_arguments_do_no_harm(store: MemoryStore) -> None:
    with make_client(store).put_object(BUCKET, KEY) as writer:
        with pytest.raises(TypeError):
            writer.write("text")  # type: ignore[arg-type]  # the mistake under test
        with pytest.raises(ValueError, match="contiguous"):
            writer.write(memoryview(b"abcd")[::2])
        writer.write(b"fine")
    assert store.find(BUCKET, KEY).data == b"fine"


class Foreign:
    """A stream of somebody else's, which takes a few bytes at a time or does not say how many it took."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.data = b""
        self.is_closed = False

    def write(self, data: Any, /) -> int | None:
        taken = bytes(data)[: self.most]
        self.data += taken
        return None if self.most is None else len(taken)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("most", [None, 2, 100])
def test_any_stream_with_write_and_close_will_do(most: int | None) -> None:
    stream = Foreign(most)
    with S3Writer(stream) as writer:
        assert writer.stream is stream
        assert writer.write(b"12345") == 5
        assert writer.tell() == 5
    assert stream.data == b"12345"
    assert stream.is_closed


def test_a_stream_that_takes_nothing_is_an_error() -> None:
    writer = S3Writer(Foreign(0))
    with pytest.raises(OSError, match="took 0 of 3"):
        writer.write(b"abc")


def test_a_stream_without_abort_is_never_closed_instead() -> None:
    stream = Foreign(None)

    def fail() -> None:
        with S3Writer(stream) as writer:
            writer.write(b"half")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fail()
    assert not stream.is_closed


def test_storage_class_and_options(store: MemoryStore) -> None:
    client = make_client(store)
    client.put_object(BUCKET, "a", storage_class="GLACIER_IR").close()
    options = PutOptions(metadata={"epoch": "3"}, storage_class="STANDARD_IA")
    open_writer(client, BUCKET, "b", options=options).close()
    open_writer(client, BUCKET, "c", options=options, storage_class="GLACIER").close()
    found = store.objects(BUCKET)
    assert [found[key].options.storage_class for key in "abc"] == ["GLACIER_IR", "STANDARD_IA", "GLACIER"]
    assert found["c"].options.metadata == {"epoch": "3"}


def test_wrong_names_fail_before_any_request(store: MemoryStore) -> None:
    client = make_client(store)
    with pytest.raises(ValueError, match="key"):
        client.put_object(BUCKET, "")
    with pytest.raises(TypeError):
        client.put_object(BUCKET, None)  # type: ignore[arg-type]  # the mistake under test


def test_repr_tells_the_state(store: MemoryStore) -> None:
    writer = make_client(store).put_object(BUCKET, KEY)
    writer.write(b"abc")
    assert "open at 3" in repr(writer)
    writer.close()
    assert "closed at 3" in repr(writer)
