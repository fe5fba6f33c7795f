from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import pytest

from s3torch.client import ObjectNotFoundError, S3BucketKeyData, S3Client
from s3torch.datasets import S3IterableDataset
from s3torch.readers import S3Reader, SequentialS3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

OBJECTS = {f"{index:02}": f"object {index}".encode() for index in range(10)}


def read(reader: S3Reader) -> bytes:
    return reader.read()


def test_each_iteration_lists_anew(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config()
    )
    assert list(dataset) == list(OBJECTS.values())
    memory.fill({"10": b"later"})
    assert list(dataset) == [*OBJECTS.values(), b"later"]


def test_two_iterators_do_not_disturb_each_other(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=3)
    )
    pairs = list(zip(dataset, dataset, strict=True))
    assert pairs == [(data, data) for data in OBJECTS.values()]


def test_a_window_is_in_flight_while_a_sample_is_consumed(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=4)
    )
    source = iter(dataset)
    assert memory.asked == []
    next(source)
    assert memory.asked == [f"get {index:02}" for index in range(5)]  # the last in the place of the one that is here
    assert memory.engines[0].in_flight == 4
    source.close()  # type: ignore[attr-defined]  # iterators of datasets are generators
    assert memory.asked[-4:] == [f"cancel {index:02}" for index in range(1, 5)]


def test_each_small_object_is_requested_once(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config()
    )
    list(dataset)
    assert memory.asked == [f"get {key}" for key in OBJECTS]


def test_large_objects_among_small_ones_are_read_by_their_reader(memory: Place) -> None:
    part_size = 5 * 2**20
    objects = {"0": b"small", "1": bytes(range(256)) * (part_size // 128), "2": b"small, too", "3": b""}
    memory.fill(objects)
    seen = []

    def look(reader: S3Reader) -> bytes:
        seen.append((reader.key, [event for event in memory.events if event == f"get {reader.key}"] != []))
        return reader.read()

    config = memory.config(part_size=part_size)
    dataset = S3IterableDataset.from_prefix("s3://bucket", region="us-east-1", transform=look, s3client_config=config)
    assert list(dataset) == list(objects.values())
    assert seen == [("0", True), ("1", False), ("2", True), ("3", False)]


def test_an_endless_source_is_drawn_no_further_than_the_window(memory: Place) -> None:
    memory.fill(OBJECTS)
    drawn = 0

    def endless(client: S3Client) -> Iterator[S3BucketKeyData]:
        nonlocal drawn
        while True:
            drawn += 1
            yield S3BucketKeyData("bucket", "03")

    dataset = S3IterableDataset("us-east-1", endless, transform=read, s3client_config=memory.config(window=4))
    assert list(islice(dataset, 50)) == [OBJECTS["03"]] * 50
    assert drawn <= 54


def test_a_transform_that_fails_leaves_nothing_in_flight(memory: Place) -> None:
    memory.fill(OBJECTS)

    def fail(reader: S3Reader) -> bytes:
        if reader.key == "02":
            raise ZeroDivisionError
        return reader.read()

    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=fail, s3client_config=memory.config(window=4)
    )
    source = iter(dataset)
    assert [next(source), next(source)] == [OBJECTS["00"], OBJECTS["01"]]
    with pytest.raises(ZeroDivisionError):
        next(source)
    assert memory.engines[0].in_flight == 0


def test_an_object_replaced_since_it_was_listed_is_an_error(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=1)
    )
    source = iter(dataset)
    next(source)
    memory.fill({"02": b"other bytes"})
    next(source)
    with pytest.raises(Exception, match="replaced"):
        next(source)


def test_an_object_deleted_since_it_was_listed_is_an_error(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=1)
    )
    source = iter(dataset)
    next(source)
    memory.store.remove("bucket", ["02"])
    next(source)
    with pytest.raises(ObjectNotFoundError):
        next(source)


def test_sharding_in_one_process_changes_nothing(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(), enable_sharding=True
    )
    assert list(dataset) == list(OBJECTS.values())


class Sample:
    """Can be watched."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_nothing_lives_longer_than_its_consumer_wants(
    memory: Place, workers: int, on_error: Literal["raise", "skip"]
) -> None:
    memory.fill(OBJECTS)
    fetched: dict[str, weakref.ref[Any]] = {}

    def construct(bucket: str, key: str, get_object_info: Any, get_stream: Any) -> S3Reader:
        fetched[key] = weakref.ref(get_stream)  # it has the bytes
        return SequentialS3Reader(bucket, key, get_object_info, get_stream)

    def transform(reader: S3Reader) -> Sample:
        assert reader.read()
        return Sample()

    source = iter(
        S3IterableDataset.from_prefix(
            "s3://bucket",
            region="us-east-1",
            transform=transform,
            on_error=on_error,
            transform_workers=workers,
            s3client_config=memory.config(window=2),
            reader_constructor=construct,
        )
    )
    for key in OBJECTS:
        sample = weakref.ref(next(source))
        # A thread that has just handed on its sample may not have come to its next statement.
        deadline = time.monotonic() + 30 * bool(workers)
        while (sample() is not None or fetched[key]() is not None) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sample() is None
        assert fetched[key]() is None
