from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import DataLoader, Subset

from s3torch.client import ObjectNotFoundError, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.datasets import S3MapDataset
from s3torch.readers import S3Reader, S3ReaderConstructor

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

OBJECTS = {f"{index:02}": f"object {index}".encode() for index in range(10)}


def read(reader: S3Reader) -> bytes:
    return reader.read()


@pytest.fixture
def dataset(memory: Place) -> S3MapDataset:
    memory.fill(OBJECTS)
    return S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=4)
    )


def test_length_and_items(dataset: S3MapDataset) -> None:
    assert len(dataset) == 10
    assert dataset[3] == OBJECTS["03"]
    assert dataset[-1] == OBJECTS["09"]
    with pytest.raises(IndexError):
        dataset[10]


def test_it_lists_once_when_first_asked(dataset: S3MapDataset, memory: Place) -> None:
    assert memory.engines == []
    assert len(dataset) == 10
    memory.fill({"10": b"later"})
    assert len(dataset) == 10
    assert len(memory.engines) == 1


def test_one_item_is_one_request(dataset: S3MapDataset, memory: Place) -> None:
    dataset[3]
    dataset[3]
    assert memory.asked == ["get 03", "get 03"]


def test_a_batch_is_fetched_at_once_and_in_order(dataset: S3MapDataset, memory: Place) -> None:
    assert dataset.__getitems__([7, 1, -1, 1]) == [OBJECTS[key] for key in ("07", "01", "09", "01")]
    assert memory.asked == ["get 07", "get 01", "get 09", "get 01"]
    assert dataset.__getitems__([]) == []
    with pytest.raises(IndexError):
        dataset.__getitems__([0, 99])


def test_the_requests_of_a_batch_are_in_flight_together(memory: Place) -> None:
    memory.fill(OBJECTS)
    flying = []

    def look(reader: S3Reader) -> bytes:
        flying.append(memory.engines[0].in_flight)
        return reader.read()

    dataset = S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=look, s3client_config=memory.config()
    )
    dataset.__getitems__(range(5))
    assert flying == [4, 3, 2, 1, 0]


def test_a_batch_whose_transform_fails_leaves_nothing_in_flight(memory: Place) -> None:
    memory.fill(OBJECTS)

    def fail(reader: S3Reader) -> bytes:
        raise ZeroDivisionError(reader.key)

    dataset = S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=fail, s3client_config=memory.config()
    )
    with pytest.raises(ZeroDivisionError, match="05"):
        dataset.__getitems__([5, 6, 7])
    assert memory.asked[-2:] == ["cancel 06", "cancel 07"]


def test_a_data_loader_takes_batches_also_through_a_subset(dataset: S3MapDataset, memory: Place) -> None:
    batches = list(DataLoader(dataset, batch_size=4))
    assert batches == [list(OBJECTS.values())[first : first + 4] for first in (0, 4, 8)]
    memory.events.clear()
    assert list(DataLoader(Subset(dataset, [2, 4]), batch_size=2)) == [[OBJECTS["02"], OBJECTS["04"]]]
    assert memory.asked == ["get 02", "get 04"]


class Labelled(S3MapDataset):
    """As users of the original extend it."""

    def __getitem__(self, index: int) -> Any:
        return index, super().__getitem__(index)


def test_a_subclass_that_makes_its_own_items_is_asked_for_them(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = Labelled.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config(window=4)
    )
    assert dataset.__getitems__([2, 1]) == [(2, OBJECTS["02"]), (1, OBJECTS["01"])]
    batch = next(iter(DataLoader(dataset, batch_size=3, collate_fn=list)))
    assert batch == [(index, OBJECTS[f"{index:02}"]) for index in range(3)]


def test_readers_of_ranges_make_batches_too(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3MapDataset.from_prefix(
        "s3://bucket",
        region="us-east-1",
        transform=read,
        s3client_config=memory.config(),
        reader_constructor=S3ReaderConstructor.range_based(),
    )
    assert dataset.__getitems__([3, 2]) == [OBJECTS["03"], OBJECTS["02"]]


def test_a_pickled_copy_knows_the_same_objects_by_the_same_indices() -> None:
    store = MemoryStore.named("memory://test-map-pickle")
    store.create_bucket("bucket")
    dataset = S3MapDataset.from_prefix(
        "s3://bucket",
        region="us-east-1",
        endpoint="memory://test-map-pickle",
        transform=read,
        s3client_config=S3ClientConfig(engine="memory"),
    )
    for key, data in OBJECTS.items():
        dataset._client.put("bucket", key, data)
    assert len(dataset) == 10
    dataset._client.put("bucket", "00a", b"a newcomer that would shift the indices")
    again = pickle.loads(pickle.dumps(dataset))
    assert [again[index] for index in range(len(again))] == list(OBJECTS.values())


def test_an_object_that_is_gone_is_an_error_at_its_item(dataset: S3MapDataset) -> None:
    assert len(dataset) == 10
    dataset._client.delete_object("bucket", "04")
    assert dataset[3] == OBJECTS["03"]
    with pytest.raises(ObjectNotFoundError):
        dataset[4]
    with pytest.raises(ObjectNotFoundError):
        dataset.__getitems__([3, 4])
