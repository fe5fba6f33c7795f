"""Every reader on every engine against the laws of a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest

from s3torch.client import S3Client
from s3torch.harness.conformance import (
    DCPConformance,
    ReaderConformance,
    StoredObject,
    StoreItems,
    StoreObject,
)
from s3torch.readers import DCPOptimizedS3Reader, ItemRange, S3Reader, S3ReaderConstructor, open_reader

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("dummy_aws_env")]

StoreWith: TypeAlias = Callable[[bytes, Callable[[S3Client, str, str], Any]], StoredObject]


class TestSequential(ReaderConformance):
    slack = 256 * 1024  # the first piece a stream fetches

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_reader)


class TestRanged(ReaderConformance):
    slack = 8 * 1024 * 1024

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(None))


class TestRangedWithoutBuffer(ReaderConformance):
    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(0))


class TestRangedWithSmallBuffer(ReaderConformance):
    slack = 10_000

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(10_000))


class TestDCPOptimized(DCPConformance):
    @pytest.fixture
    def store_items(self, store_with: StoreWith) -> StoreItems:
        def store(data: bytes, items: Sequence[tuple[int, int]], max_gap_size: float) -> StoredObject:
            def open_items(client: S3Client, bucket: str, key: str) -> DCPOptimizedS3Reader:
                return DCPOptimizedS3Reader(
                    bucket,
                    key,
                    [ItemRange(start, end) for start, end in items],
                    lambda: client.head_object(bucket, key),
                    lambda start=None, end=None: client.get(bucket, key, start=start, end=end),
                    max_gap_size,
                )

            return store_with(data, open_items)

        return store


def open_ranged(buffer_size: int | None) -> Callable[[S3Client, str, str], S3Reader]:
    constructor = S3ReaderConstructor.range_based(buffer_size)
    return lambda client, bucket, key: open_reader(client, bucket, key, reader_constructor=constructor)
