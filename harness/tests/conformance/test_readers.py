"""Every reader on every engine against the laws of a reader."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from harness.tests.conformance.targets import MIB, OnEveryTarget, Target

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.conformance import (
    DCPConformance,
    ReaderConformance,
    Recorder,
    StoredObject,
    StoreItems,
    StoreObject,
)
from s3torch.readers import DCPOptimizedS3Reader, ItemRange, S3Reader, S3ReaderConstructor, open_reader

pytestmark = pytest.mark.conformance

StoreWith: TypeAlias = Callable[[bytes, Callable[[S3Client, str, str], Any]], StoredObject]


@dataclass(frozen=True)
class Place:
    """A client whose requests are counted."""

    client: S3Client
    recorder: Recorder


@pytest.fixture(scope="module")
def places() -> Iterator[dict[tuple[str, str], Place]]:
    """What was made so far, by endpoint and engine."""
    made: dict[tuple[str, str], Place] = {}
    yield made
    for place in made.values():
        place.client.close()


@pytest.fixture
def store_with(target: Target, places: dict[tuple[str, str], Place]) -> StoreWith:
    """Stores bytes as an object, to be opened by a function of client, bucket and key."""
    name = (target.endpoint, target.engine)
    if name not in places:
        recorder = Recorder(target.engine)
        config = S3ClientConfig(engine=recorder, force_path_style=True, part_size=5 * MIB, max_connections=4)
        places[name] = Place(S3Client(target.region, endpoint=target.endpoint, s3client_config=config), recorder)
    client, recorder = places[name].client, places[name].recorder
    recorder.clear()
    arrangement = target.arrangement
    bucket = arrangement.create_bucket()

    def store(data: bytes, open_one: Callable[[S3Client, str, str], Any]) -> StoredObject:
        key = uuid.uuid4().hex
        arrangement.put(bucket, key, data)
        return StoredObject(
            open=lambda: open_one(client, bucket, key),
            replace=lambda other: arrangement.put(bucket, key, other),
            remove=lambda: arrangement.remove(bucket, key),
            fetched=lambda: recorder.fetched,
            fail=recorder.fail,
            heal=recorder.clear,
        )

    return store


class TestSequential(OnEveryTarget, ReaderConformance):
    slack = 256 * 1024  # the first piece a stream fetches

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_reader)


class TestRanged(OnEveryTarget, ReaderConformance):
    slack = 8 * MIB

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(None))


class TestRangedWithoutBuffer(OnEveryTarget, ReaderConformance):
    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(0))


class TestRangedWithSmallBuffer(OnEveryTarget, ReaderConformance):
    slack = 10_000

    @pytest.fixture
    def store_object(self, store_with: StoreWith) -> StoreObject:
        return lambda data: store_with(data, open_ranged(10_000))


class TestDCPOptimized(OnEveryTarget, DCPConformance):
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
