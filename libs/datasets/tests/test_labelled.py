"""Samples with the labels of a manifest."""

from __future__ import annotations

import io
import pickle
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine
from s3torch.datasets import S3IterableDataset, S3MapDataset, list_index, load_manifest
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

COUNT = 23
KEYS = [f"{index:03}" for index in range(COUNT)]
MANIFEST = "s3://bucket/manifest.parquet"


def key_of(reader: S3Reader) -> str:
    reader.read()
    return reader.key


@pytest.fixture
def options(memory: Place) -> dict[str, Any]:
    """A manifest that labels each object with the square of its number."""
    memory.fill({key: key.encode() for key in KEYS})
    config = S3ClientConfig(engine=lambda context: MemoryEngine(context, memory.store))
    client = S3Client("us-east-1", s3client_config=config)
    index = list_index(client, "s3://bucket/0")
    index.save_manifest(MANIFEST, client=client, labels={"square": [number**2 for number in range(COUNT)]})
    return {"region": "us-east-1", "transform": key_of, "s3client_config": memory.config()}


PAIRS = [(key, number**2) for number, key in enumerate(KEYS)]


def test_a_manifest_labels_samples(options: dict[str, Any]) -> None:
    assert list(S3IterableDataset.from_manifest(MANIFEST, **options)) == KEYS
    dataset = S3IterableDataset.from_manifest(MANIFEST, **options, label="square", shuffle=True)
    samples = list(dataset)
    assert sorted(samples) == PAIRS
    assert samples != PAIRS
    source = iter(dataset)
    seen = list(islice(source, 9))
    dataset.load_state_dict(dataset.state_dict())
    assert seen + list(dataset) == samples


def test_a_selection_of_a_manifest_keeps_its_labels(options: dict[str, Any], memory: Place) -> None:
    client = S3Client("us-east-1", s3client_config=memory.config())
    index = load_manifest(MANIFEST, client=client).where(suffix=("1", "4"))[::-1]
    expected = [pair for pair in PAIRS if pair[0][-1] in "14"][::-1]
    assert list(S3IterableDataset.from_index(index, **options, label="square")) == expected
    by_number = S3MapDataset.from_index(index, **options, label="square")
    assert [by_number[number] for number in range(len(by_number))] == expected
    assert by_number[-1] == expected[-1]
    with pytest.raises(IndexError):
        by_number[len(expected)]


def test_batches_are_labelled(options: dict[str, Any]) -> None:
    dataset = S3MapDataset.from_manifest(MANIFEST, **options, label="square")
    keys, labels = next(iter(DataLoader(dataset, batch_size=4)))
    assert (list(keys), labels.tolist()) == (KEYS[:4], [0, 1, 4, 9])
    column = dataset._labels
    assert column is not None
    again = pickle.loads(pickle.dumps(column))
    assert again._values is None


def test_a_label_that_is_not_there_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match=r"no column 'class'.*square"):
        S3IterableDataset.from_manifest(MANIFEST, **options, label="class")
    with pytest.raises(KeyError, match="not made from a manifest with labels"):
        S3IterableDataset.from_prefix("s3://bucket", **options).index.labels("square")
    with pytest.raises(TypeError, match="manifest must be a str"):
        S3MapDataset.from_manifest(5, **options)  # type: ignore[arg-type]


def test_a_dict_labels_the_objects_it_names(options: dict[str, Any]) -> None:
    labels = {f"s3://bucket/{key}": number for key, number in reversed(PAIRS)}
    assert list(S3IterableDataset.from_objects(labels, **options)) == PAIRS[::-1]
    assert sorted(S3IterableDataset.from_objects(labels, **options, shuffle=True)) == PAIRS
    by_number = S3MapDataset.from_objects(labels, **options)
    assert by_number[3] == PAIRS[-4]
    assert by_number.__getitems__([0, 1]) == [PAIRS[-1], PAIRS[-2]]
    names = dict.fromkeys(labels, "cat")
    assert S3MapDataset.from_objects(names, **options)[0] == (KEYS[-1], "cat")


@pytest.mark.parametrize("style", [S3IterableDataset, S3MapDataset])
def test_bad_labels_fail_at_once(options: dict[str, Any], style: type[S3IterableDataset | S3MapDataset]) -> None:
    with pytest.raises(ValueError, match=r"labels 'label' are not of one type"):
        style.from_objects({"s3://bucket/000": 1, "s3://bucket/001": "cat"}, **options)
    with pytest.raises(ValueError, match="without a key"):
        style.from_objects({"s3://bucket/": 1}, **options)


def test_an_index_is_given_labels(options: dict[str, Any]) -> None:
    index = S3MapDataset.from_manifest(MANIFEST, **options).index
    part = index.where(suffix=("1", "4"))[::-1]
    more = part.with_labels({"place": np.arange(len(part))})
    assert more.label_names == ["square", "place"]
    assert more.fingerprint == part.fingerprint
    assert more.labels("square").to_pylist() == [int(item.key) ** 2 for item in part]
    assert [sample[1] for sample in S3IterableDataset.from_index(more, **options, label="place")] == [*range(len(part))]
    whole = index.with_labels({"square": [0] * COUNT})
    assert whole._columns is index._columns
    assert whole.labels("square").to_pylist() == [0] * COUNT
    assert index.labels("square").to_pylist() == [number**2 for number in range(COUNT)]
    assert pickle.loads(pickle.dumps(more)).labels("place").to_pylist() == [*range(len(part))]
    with pytest.raises(ValueError, match="1 labels 'a' for 23 objects"):
        index.with_labels({"a": [1]})
    with pytest.raises(ValueError, match="cannot be called 'key'"):
        index.with_labels({"key": [1] * COUNT})


class OfTheOriginal(S3MapDataset):
    """A subclass that knows the original's arguments alone."""

    def __init__(self, region: str, get_dataset_objects: Any, *rest: Any) -> None:
        super().__init__(region, get_dataset_objects, *rest)


def test_makers_give_subclasses_what_they_know(options: dict[str, Any]) -> None:
    assert OfTheOriginal.from_prefix("s3://bucket/0", **options)[0] == KEYS[0]
    assert OfTheOriginal.from_objects("s3://bucket/000", **options)[0] == KEYS[0]


@pytest.mark.parametrize("style", [S3IterableDataset, S3MapDataset])
def test_a_manifest_of_keys_alone_and_one_of_another_bucket(
    options: dict[str, Any], memory: Place, style: type[S3IterableDataset | S3MapDataset]
) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"key": KEYS[:3]}), file)
    memory.fill({"keys.parquet": file.getvalue()})
    assert len(style.from_manifest("s3://bucket/keys.parquet", bucket="bucket", **options).index) == 3
    assert len(style.from_manifest(MANIFEST, bucket="bucket", **options).index) == COUNT
    with pytest.raises(ValueError, match="bucket"):
        assert style.from_manifest("s3://bucket/keys.parquet", **options).index
    with pytest.raises(ValueError, match="names objects in bucket 'bucket', but 'other' is expected"):
        assert style.from_manifest(MANIFEST, bucket="other", **options).index
    with pytest.raises(TypeError, match="bucket must be a str"):
        style.from_manifest(MANIFEST, bucket=5, **options)  # type: ignore[arg-type]


def test_a_saved_manifest_is_the_same_dataset(options: dict[str, Any]) -> None:
    dataset = S3IterableDataset.from_prefix("s3://bucket/0", **options, index=True)
    dataset.save_manifest("s3://bucket/again.arrow")
    list(islice(iter(dataset), 5))
    again = S3IterableDataset.from_manifest("s3://bucket/again.arrow", **options)
    again.load_state_dict(dataset.state_dict())
    assert list(again) == KEYS[5:]
    by_number = S3MapDataset.from_prefix("s3://bucket/0", **options)
    by_number.save_manifest("s3://bucket/third.parquet")
    third = S3MapDataset.from_manifest("s3://bucket/third.parquet", **options)
    assert third.index.fingerprint == again.index.fingerprint
    assert third[3] == "003"
