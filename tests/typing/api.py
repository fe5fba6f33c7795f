"""Code as users write it, for the type checker alone: it is never run.

What stands here must stay free of complaints, and each ``type: ignore`` must stay necessary: it marks a mistake that
the checker has to find.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from typing_extensions import assert_type

from s3torch.client import GetRequest, GetResult, ObjectInfo, S3Exception
from s3torch.client import S3Client as PlainClient
from s3torchconnector import (
    S3Checkpoint,
    S3ClientConfig,
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
from s3torchconnector.s3reader.protocol import GetStreamCallable, S3ReaderConstructorProtocol
from s3torchconnectorclient._mountpoint_s3_client import HeadObjectResult, ListObjectResult, ListObjectStream


def decode(reader: S3Reader) -> tuple[str, torch.Tensor]:
    return reader.key, torch.frombuffer(bytearray(reader.read()), dtype=torch.uint8)


def make_datasets(config: S3ClientConfig) -> None:
    mapped = S3MapDataset.from_prefix(
        "s3://bucket/prefix", region="us-east-1", transform=decode, s3client_config=config
    )
    assert_type(mapped, S3MapDataset)
    assert_type(len(mapped), int)
    as_torch: Dataset[object] = mapped
    DataLoader(as_torch, batch_size=4, num_workers=2)

    iterable = S3IterableDataset.from_objects(
        ["s3://bucket/a", "s3://bucket/b"],
        region="us-east-1",
        endpoint="http://127.0.0.1:9000",
        transform=lambda reader: reader.read(),
        enable_sharding=True,
        reader_constructor=S3ReaderConstructor.range_based(buffer_size=1024),
    )
    assert_type(iterable, S3IterableDataset)
    as_iterable: IterableDataset[object] = iterable
    for sample in as_iterable:
        print(sample)

    S3MapDataset.from_objects(f"s3://bucket/{index}" for index in range(10))
    S3MapDataset.from_prefix(b"s3://bucket")  # type: ignore[arg-type]  # a URI is a str
    S3MapDataset.from_prefix("s3://bucket", transform=3)  # type: ignore[arg-type]  # a transform is a function
    S3MapDataset.from_prefix("s3://bucket", enable_sharding=True)  # type: ignore[call-arg]  # the iterable one's


def choose(client: PlainClient) -> Iterator[S3BucketKeyData]:
    for page in client.list_objects("bucket", prefix="a/"):
        for info in page.object_info:
            if info.size > 0:
                yield S3BucketKeyData("bucket", info.key, info)


class Labelled(S3MapDataset):
    def __getitem__(self, index: int) -> tuple[int, object]:
        return index, super().__getitem__(index)


def choose_objects() -> None:
    S3IterableDataset("us-east-1", choose, transform=decode)
    assert_type(Labelled.from_prefix("s3://bucket"), Labelled)


def keep_checkpoints(model: torch.nn.Module) -> None:
    checkpoint = S3Checkpoint(region="us-east-1", s3client_config=S3ClientConfig(part_size=16 * 2**20))
    assert_type(checkpoint.writer("s3://bucket/key"), S3Writer)
    assert_type(checkpoint.reader("s3://bucket/key"), S3Reader)
    checkpoint.save(model.state_dict(), "s3://bucket/key")
    model.load_state_dict(checkpoint.load("s3://bucket/key", map_location="cpu"))
    with checkpoint.writer("s3://bucket/key") as writer:
        assert_type(writer, S3Writer)
        assert_type(writer.write(b"bytes"), int)
        writer.write(memoryview(b"bytes"))
        writer.write("text")  # type: ignore[arg-type]  # bytes only
    with checkpoint.reader("s3://bucket/key") as reader:
        assert_type(reader.read(size=10), bytes)
        assert_type(reader.readinto(bytearray(10)), int)
        assert_type(reader.seek(-1, io.SEEK_END), int)
        buffered: io.BufferedIOBase = reader
        print(buffered)


def use_the_client(config: S3ClientConfig) -> None:
    client = S3Client("us-east-1", endpoint=None, user_agent=UserAgent(["md/mine"]), s3client_config=config)
    assert_type(client.get_object("bucket", "key"), S3Reader)
    client.get_object("bucket", "key", reader_constructor=S3ReaderConstructor.sequential())
    assert_type(client.put_object("bucket", "key", "STANDARD_IA"), S3Writer)
    assert_type(client.head_object("bucket", "key"), HeadObjectResult)
    pages: ListObjectStream = client.list_objects("bucket", "prefix", "/", 100)
    assert_type(next(pages), ListObjectResult)
    assert_type(client.region, str)
    client.delete_object("bucket", "key")
    client.copy_object("bucket", "key", "bucket", "copy")
    with S3Client("us-east-1") as own:
        assert_type(own, S3Client)
    try:
        for result in client.get_many([GetRequest("bucket", "key")]):
            assert_type(result, GetResult)
    except S3Exception as error:
        assert_type(error.is_retryable, bool)


def make_readers(info: ObjectInfo, get_stream: GetStreamCallable) -> None:
    SequentialS3Reader("bucket", "key", lambda: info, get_stream).prefetch()
    RangedS3Reader("bucket", "key", lambda: info, get_stream, buffer_size=0)
    DCPOptimizedS3Reader("bucket", "key", [ItemRange(0, 10)], lambda: info, get_stream, max_gap_size=float("inf"))
    constructors: list[S3ReaderConstructorProtocol] = [
        S3ReaderConstructor.default(),
        S3ReaderConstructor.dcp_optimized(max_gap_size=0),
        partial(RangedS3Reader, buffer_size=4096),
        SequentialS3Reader,
    ]
    for constructor in constructors:
        assert_type(constructor("bucket", "key", lambda: info, get_stream), S3Reader)
        assert_type(S3ReaderConstructor.get_reader_type_string(constructor), str)
