"""The public API by name, parameter, default, result and error, as code written for the original relies on it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import pytest
import torch.utils.data

from s3torch.client import EngineContext, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.datasets import identity
from s3torchconnector import (
    S3Checkpoint,
    S3Exception,
    S3IterableDataset,
    S3MapDataset,
    S3Reader,
    S3ReaderConstructor,
    S3Writer,
)
from s3torchconnector._s3bucket_key_data import S3BucketKeyData
from s3torchconnector._s3client import S3Client
from s3torchconnector._user_agent import UserAgent
from s3torchconnector.s3reader import DCPOptimizedS3Reader, RangedS3Reader, SequentialS3Reader
from s3torchconnector.s3reader.dcp_optimized import ItemRange
from s3torchconnectorclient._mountpoint_s3_client import (
    GetObjectStream,
    HeadObjectResult,
    ListObjectResult,
    ObjectInfo,
    PutObjectStream,
    RestoreStatus,
)

MIB = 2**20
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

DATASET = "region, endpoint=None, transform=identity, s3client_config=None, reader_constructor=None"
SHARDED = (
    "region, endpoint=None, transform=identity, s3client_config=None, enable_sharding=False, reader_constructor=None"
)
READER = "bucket, key, get_object_info, get_stream"

# What the original's calls look like. What is optional here must be optional, with this default; ours may have more
# optional parameters by name, and may not need what the original needs.
SIGNATURES = {
    "s3torchconnector.S3MapDataset": (
        "region, get_dataset_objects, endpoint=None, transform=identity, s3client_config=None, reader_constructor=None"
    ),
    "s3torchconnector.S3MapDataset.from_prefix": f"s3_uri, *, {DATASET}",
    "s3torchconnector.S3MapDataset.from_objects": f"object_uris, *, {DATASET}",
    "s3torchconnector.S3IterableDataset": (
        "region, get_dataset_objects, endpoint=None, transform=identity, s3client_config=None, enable_sharding=False, "
        "reader_constructor=None"
    ),
    "s3torchconnector.S3IterableDataset.from_prefix": f"s3_uri, *, {SHARDED}",
    "s3torchconnector.S3IterableDataset.from_objects": f"object_uris, *, {SHARDED}",
    "s3torchconnector.S3Checkpoint": "region, endpoint=None, s3client_config=None",
    "s3torchconnector.S3Checkpoint.reader": "self, s3_uri",
    "s3torchconnector.S3Checkpoint.writer": "self, s3_uri",
    "s3torchconnector.S3Writer": "stream",
    "s3torchconnector.S3Writer.write": "self, data",
    "s3torchconnector.S3Writer.close": "self",
    "s3torchconnector.S3Writer.flush": "self",
    "s3torchconnector.S3Writer.tell": "self",
    "s3torchconnector.S3ClientConfig": (
        "throughput_target_gbps=10.0, part_size=8*MIB, unsigned=False, force_path_style=False, max_attempts=10, "
        "profile=None, requester_pays=False"
    ),
    "s3torchconnector.S3ReaderConstructor.sequential": "",
    "s3torchconnector.S3ReaderConstructor.range_based": "buffer_size=None",
    "s3torchconnector.S3ReaderConstructor.dcp_optimized": "max_gap_size=32*MIB",
    "s3torchconnector.S3ReaderConstructor.default": "",
    "s3torchconnector.S3ReaderConstructor.get_reader_type_string": "constructor",
    "s3torchconnector.s3reader.SequentialS3Reader": READER,
    "s3torchconnector.s3reader.RangedS3Reader": f"{READER}, buffer_size=None",
    "s3torchconnector.s3reader.DCPOptimizedS3Reader": (
        "bucket, key, item_ranges, get_object_info, get_stream, max_gap_size=32*MIB"
    ),
    "s3torchconnector.s3reader.SequentialS3Reader.prefetch": "self",
    "s3torchconnector._s3client.S3Client": "region, *, endpoint=None, user_agent=None, s3client_config=None",
    "s3torchconnector._s3client.S3Client.get_object": "self, bucket, key, *, object_info=None, reader_constructor=None",
    "s3torchconnector._s3client.S3Client.put_object": "self, bucket, key, storage_class=None",
    "s3torchconnector._s3client.S3Client.list_objects": "self, bucket, prefix='', delimiter='', max_keys=1000",
    "s3torchconnector._s3client.S3Client.head_object": "self, bucket, key",
    "s3torchconnector._s3client.S3Client.delete_object": "self, bucket, key",
    "s3torchconnector._s3client.S3Client.copy_object": "self, src_bucket, src_key, dst_bucket, dst_key",
    "s3torchconnector._user_agent.UserAgent": "comments=None",
    "s3torchconnectorclient._mountpoint_s3_client.ObjectInfo": (
        "key, etag, size, last_modified, storage_class, restore_status"
    ),
    "s3torchconnectorclient._mountpoint_s3_client.HeadObjectResult": (
        "etag, size, last_modified, storage_class, restore_status"
    ),
    "s3torchconnectorclient._mountpoint_s3_client.RestoreStatus": "in_progress, expiry",
    "s3torchconnectorclient._mountpoint_s3_client.ListObjectResult": "object_info, common_prefixes",
    "s3torchconnector._s3bucket_key_data.S3BucketKeyData": "bucket, key, object_info=None",
    **{
        f"s3torchconnector.{name}.{method}": parameters
        for name in (
            "S3Reader",
            "s3reader.SequentialS3Reader",
            "s3reader.RangedS3Reader",
            "s3reader.DCPOptimizedS3Reader",
        )
        for method, parameters in {
            "read": "self, size=None",
            "readinto": "self, buf",
            "seek": "self, offset, whence=0, /",
            "tell": "self",
            "readable": "self",
            "seekable": "self",
            "writable": "self",
            "close": "self",
        }.items()
    },
}


def find(path: str) -> Any:
    """Return what a dotted path names."""
    module, _, rest = path.partition(".")
    found: Any = importlib.import_module(module)
    for name in rest.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            module = f"{found.__name__}.{name}"
            found = importlib.import_module(module)
    return found


def signature_of(parameters: str) -> inspect.Signature:
    names = {"identity": identity, "MIB": MIB}
    return inspect.signature(eval(f"lambda {parameters}: None", names))  # noqa: S307  # text of this file


def check_accepts(ours: inspect.Signature, theirs: inspect.Signature) -> None:
    """Check that every call that ``theirs`` allows means the same to ``ours``."""
    by_position = [parameter for parameter in ours.parameters.values() if parameter.kind in POSITIONAL]
    used = set()
    for place, wanted in enumerate(theirs.parameters.values()):
        if wanted.kind in POSITIONAL:
            assert place < len(by_position), f"{wanted.name} cannot be given by position"
            found = by_position[place]
        else:
            assert wanted.name in ours.parameters, f"no parameter {wanted.name}"
            found = ours.parameters[wanted.name]
        if wanted.kind is not inspect.Parameter.POSITIONAL_ONLY and wanted.name != "self":
            assert found.name == wanted.name, f"{found.name} stands where {wanted.name} was"
            assert found.kind is not inspect.Parameter.POSITIONAL_ONLY, f"{wanted.name} cannot be given by name"
        if wanted.default is not inspect.Parameter.empty:
            assert found.default == wanted.default, f"{wanted.name} has another default"
        used.add(found.name)
    for name, found in ours.parameters.items():
        if name not in used and found.kind is not inspect.Parameter.VAR_KEYWORD:
            assert found.default is not inspect.Parameter.empty, f"{name} must be given"


@pytest.mark.parametrize(("path", "parameters"), SIGNATURES.items())
def test_calls_mean_what_they_mean_to_the_original(path: str, parameters: str) -> None:
    check_accepts(inspect.signature(find(path)), signature_of(parameters))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a", "a, b"),
        ("b, a", "a, b"),
        ("a, /", "a"),
        ("a, b", "a"),
        ("a=2", "a=1"),
        ("a", "a=1"),
        ("*, a", "a"),
    ],
)
def test_the_check_sees_a_difference(ours: str, theirs: str) -> None:
    with pytest.raises(AssertionError):
        check_accepts(signature_of(ours), signature_of(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"), [("a, b=2", "a"), ("a, **b", "a"), ("a=1", "a"), ("a", "*, a"), ("a", "a, /"), ("x", "a, /")]
)
def test_the_check_allows_more(ours: str, theirs: str) -> None:
    check_accepts(signature_of(ours), signature_of(theirs))


# ------------------------------------------------------------------------------------------------------------- results


@pytest.fixture
def config() -> S3ClientConfig:
    store = MemoryStore()
    store.create_bucket("bucket")

    def engine(context: EngineContext) -> MemoryEngine:
        return MemoryEngine(context, store)

    return S3ClientConfig(engine=engine)


@pytest.fixture
def client(config: S3ClientConfig) -> S3Client:
    client = S3Client("us-east-1", s3client_config=config)
    for key in ("a/1", "a/2", "b"):
        with client.put_object("bucket", key) as writer:
            writer.write(b"bytes of " + key.encode())
    return client


def test_the_client_gives_what_the_original_gives(client: S3Client, config: S3ClientConfig) -> None:
    assert client.region == "us-east-1"
    assert client.s3client_config is config
    assert isinstance(client.user_agent_prefix, str)

    reader = client.get_object("bucket", "a/1")
    assert isinstance(reader, SequentialS3Reader)
    assert reader.read() == b"bytes of a/1"
    writer = client.put_object("bucket", "c", "STANDARD_IA")
    assert isinstance(writer, S3Writer)
    assert isinstance(writer.stream, PutObjectStream)
    writer.write(b"1")
    writer.close()

    head = client.head_object("bucket", "a/1")
    assert isinstance(head, HeadObjectResult)
    assert (head.size, head.etag[:1]) == (12, '"')
    assert isinstance(head.last_modified, int)
    assert head.restore_status is None

    pages = client.list_objects("bucket", "a/", max_keys=1)
    assert isinstance(pages, Iterator)
    page = next(pages)
    assert isinstance(page, ListObjectResult)
    assert [type(info) for info in page.object_info] == [ObjectInfo]
    assert [info.key for page in (page, *pages) for info in page.object_info] == ["a/1", "a/2"]
    assert [page.common_prefixes for page in client.list_objects("bucket", "", "/")] == [["a/"]]

    client.copy_object("bucket", "b", "bucket", "copy")
    client.delete_object("bucket", "b")
    client.delete_object("bucket", "b")
    assert client.get_object("bucket", "copy").read() == b"bytes of b"


def test_values_are_what_they_are_in_the_original() -> None:
    assert S3BucketKeyData("b", "k") == ("b", "k", None)
    assert RestoreStatus(True, None).in_progress
    info = ObjectInfo("k", '"e"', 3, 0, None, None)
    assert (info.key, info.etag, info.size) == ("k", '"e"', 3)


def test_the_configuration_is_a_frozen_dataclass() -> None:
    assert dataclasses.is_dataclass(S3ClientConfig)
    given = S3ClientConfig(5.0, 16 * MIB, True, True, 3, "me")
    assert (given.throughput_target_gbps, given.part_size, given.profile) == (5.0, 16 * MIB, "me")
    assert given == S3ClientConfig(5.0, 16 * MIB, unsigned=True, force_path_style=True, max_attempts=3, profile="me")
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.part_size = 1  # type: ignore[misc]  # the mistake under test


def test_datasets_are_torch_datasets(config: S3ClientConfig, client: S3Client) -> None:
    mapped = S3MapDataset.from_prefix("s3://bucket/a/", region="us-east-1", s3client_config=config)
    assert isinstance(mapped, torch.utils.data.Dataset)
    assert len(mapped) == 2
    assert isinstance(mapped[0], S3Reader)
    iterable = S3IterableDataset.from_prefix("s3://bucket/a/", region="us-east-1", s3client_config=config)
    assert isinstance(iterable, torch.utils.data.IterableDataset)
    assert all(isinstance(reader, S3Reader) for reader in iterable)
    assert (mapped.region, mapped.endpoint) == (iterable.region, iterable.endpoint) == ("us-east-1", None)


def test_checkpoints_open_readers_and_writers(config: S3ClientConfig, client: S3Client) -> None:
    checkpoint = S3Checkpoint(region="us-east-1", s3client_config=config)
    assert (checkpoint.region, checkpoint.endpoint) == ("us-east-1", None)
    with checkpoint.writer("s3://bucket/model") as writer:
        assert isinstance(writer, S3Writer)
        torch.save({"weight": torch.arange(10)}, cast("IO[bytes]", writer))
    with checkpoint.reader("s3://bucket/model") as reader:
        assert isinstance(reader, S3Reader)
        assert torch.equal(torch.load(cast("IO[bytes]", reader))["weight"], torch.arange(10))


def make_reader(constructor: Callable[..., Any] = S3Reader, data: bytes = b"0123456789", **more: Any) -> Any:
    def get_stream(start: int | None = None, end: int | None = None) -> Any:
        return io.BytesIO(data[start:end])

    info = ObjectInfo("key", '"etag"', len(data), 0)
    return constructor(bucket="bucket", key="key", get_object_info=lambda: info, get_stream=get_stream, **more)


class Chunks:
    """The least that `get_stream` of the original returns: an iterator of bytes with `tell`."""

    def __init__(self, data: bytes, start: int) -> None:
        self._chunks = iter([data[first : first + 3] for first in range(0, len(data), 3)])
        self._position = start

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._position += len(chunk)
        return chunk

    def tell(self) -> int:
        return self._position


@pytest.mark.parametrize("constructor", [S3Reader, SequentialS3Reader, RangedS3Reader])
def test_readers_are_made_of_an_iterator_of_bytes(constructor: Callable[..., Any]) -> None:
    data = b"0123456789"
    info = ObjectInfo("key", '"etag"', len(data), 0)

    def get_stream(start: int | None = None, end: int | None = None) -> Chunks:
        return Chunks(data[start:end], start or 0)

    reader = constructor("bucket", "key", lambda: info, get_stream)
    assert isinstance(reader, S3Reader)
    assert isinstance(reader, io.BufferedIOBase)
    assert (reader.bucket, reader.key) == ("bucket", "key")
    assert (reader.readable(), reader.writable(), reader.seekable()) == (True, False, True)
    assert reader.read(size=4) == b"0123"
    assert reader.tell() == 4
    buf = bytearray(3)
    assert reader.readinto(buf) == 3
    assert buf == b"456"
    assert reader.seek(-2, io.SEEK_END) == 8
    assert reader.read() == b"89"
    assert reader.seek(1000) == 10
    assert reader.read(None) == b""


def test_calling_the_base_gives_the_default_reader() -> None:
    assert type(make_reader(S3Reader)) is SequentialS3Reader
    assert make_reader(SequentialS3Reader).prefetch() is None


def test_constructors_make_readers_and_tell_their_kind() -> None:
    kinds = {
        "sequential": (S3ReaderConstructor.sequential(), SequentialS3Reader),
        "range_based": (S3ReaderConstructor.range_based(buffer_size=0), RangedS3Reader),
        "dcp_optimized": (S3ReaderConstructor.dcp_optimized(max_gap_size=float("inf")), SequentialS3Reader),
    }
    for kind, (constructor, reader) in kinds.items():
        assert S3ReaderConstructor.get_reader_type_string(constructor) == kind
        assert type(make_reader(constructor)) is reader
    assert type(make_reader(S3ReaderConstructor.default())) is SequentialS3Reader
    assert S3ReaderConstructor.get_reader_type_string(None) == "sequential"
    own: Any = make_reader
    assert S3ReaderConstructor.get_reader_type_string(own) == "unknown"


def test_the_user_agent_opens_with_the_product() -> None:
    agent = UserAgent(["md/dataset#map", "md/reader_type#sequential"])
    assert " s3torchconnector/" in f" {agent}"
    assert "ua/2.1 os/" in str(agent)
    assert "lang/python#" in str(agent)
    assert str(agent).endswith("(md/dataset#map md/reader_type#sequential)")


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: S3MapDataset.from_prefix("bucket/key", region="r"), ValueError),
        (lambda: S3MapDataset.from_objects(["s3:///key"], region="r"), ValueError),
        (lambda: S3IterableDataset.from_prefix(None, region="r"), TypeError),  # type: ignore[arg-type]  # the mistake
        (lambda: S3Checkpoint("r").reader("bucket/key"), ValueError),
        (lambda: S3Checkpoint("r").writer("s3://"), ValueError),
        (lambda: S3ClientConfig(part_size=5 * MIB - 1), ValueError),
        (lambda: S3ClientConfig(part_size=5 * 1024 * MIB + 1), ValueError),
        (lambda: S3ClientConfig(unsigned=True, requester_pays=True), ValueError),
        (lambda: S3ClientConfig(max_attempts=0), ValueError),
        (lambda: UserAgent("comment"), ValueError),
        (lambda: S3Client("r").get_object("", "key"), ValueError),
        (lambda: S3Client("r").get_object("bucket", ""), ValueError),
        (lambda: S3Client("r").put_object("bucket", ""), ValueError),
        (lambda: S3Client("r").list_objects("bucket", max_keys=0), ValueError),
        (lambda: S3ReaderConstructor.range_based(buffer_size=-1), ValueError),
        (lambda: S3ReaderConstructor.dcp_optimized(max_gap_size=-1), ValueError),
        (lambda: make_reader().seek(-1), ValueError),
        (lambda: make_reader().seek(0, 3), ValueError),
        (lambda: make_reader().seek(1.0), TypeError),
        (lambda: make_reader().seek(0, "end"), TypeError),
        (lambda: make_reader().read("all"), TypeError),
        (lambda: make_reader().readinto(b"read-only"), TypeError),
        (lambda: make_reader(RangedS3Reader).seek(-1), ValueError),
        (lambda: make_reader(RangedS3Reader).seek("0"), TypeError),
        (lambda: make_dcp_reader().read(), ValueError),
        (lambda: make_dcp_reader().read(-1), ValueError),
        (lambda: make_dcp_reader().read(2.0), TypeError),
        (lambda: make_dcp_reader().seek(0, io.SEEK_END), TypeError),
        (lambda: make_dcp_reader().readinto(b"read-only"), TypeError),
        (lambda: make_dcp_reader(moved_to=6).seek(1), ValueError),
        (lambda: make_dcp_reader([]), ValueError),
    ],
)
def test_bad_arguments_fail_before_any_request(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def make_dcp_reader(ranges: list[tuple[int, int]] | None = None, moved_to: int | None = None) -> Any:
    ranges = [(0, 4), (6, 10)] if ranges is None else ranges
    reader = make_reader(DCPOptimizedS3Reader, item_ranges=[ItemRange(*bounds) for bounds in ranges])
    if moved_to is not None:
        reader.seek(moved_to)
        reader.read(1)
    return reader


def test_errors_of_the_store_are_s3_exceptions(client: S3Client) -> None:
    for call in (
        lambda: client.get_object("bucket", "missing").read(),
        lambda: client.head_object("bucket", "missing"),
        lambda: client.copy_object("bucket", "missing", "bucket", "copy"),
        lambda: list(client.list_objects("no-such-bucket")),
    ):
        with pytest.raises(S3Exception) as caught:
            call()
        assert isinstance(caught.value, FileNotFoundError)


def test_streams_of_the_client_are_iterators_of_bytes(client: S3Client) -> None:
    stream = client.get("bucket", "b")
    assert isinstance(stream, GetObjectStream)
    assert b"".join(stream) == b"bytes of b"
    assert stream.tell() == 10
