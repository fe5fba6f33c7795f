"""Real `DataLoader` workers of every start method, against a real server."""

from __future__ import annotations

import gc
import multiprocessing
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from torch.utils.data import DataLoader

from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Served

pytestmark = [
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.timeout(300),  # importing torch in every worker takes long on a busy machine
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # on a machine of one core
    # Python 3.12 warns of any fork beside threads, such as torch's own, which hold none of our locks.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

METHODS = multiprocessing.get_all_start_methods()
# The boto3 engine has connections to survive a fork, too; what is not a fork starts with none, whatever the engine.
CASES = [*((method, "direct") for method in METHODS), (METHODS[0], "boto3")]
CONFIG = S3ClientConfig(force_path_style=True, operation_timeout=30)
Sample = tuple[str, bytes, int]


def read(reader: S3Reader) -> Sample:
    return reader.key, reader.read(), os.getpid()


def load(dataset: S3MapDataset | S3IterableDataset, method: str, workers: int = 2, batch_size: int = 3) -> list[Sample]:
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context=method,
        collate_fn=list,
        timeout=120,
    )
    return [sample for batch in loader for sample in batch]


@pytest.mark.parametrize(("method", "engine"), CASES)
def test_a_map_dataset_used_before_works_in_workers(served: Served, method: str, engine: str) -> None:
    dataset = S3MapDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=read,
        s3client_config=replace(CONFIG, engine=engine),
    )
    assert dataset[0][:2] == ("train/000", served.objects["train/000"])
    found = load(dataset, method)
    assert [sample[:2] for sample in found] == list(served.objects.items())
    assert len({sample[2] for sample in found} - {os.getpid()}) == 2
    assert dataset[1][1] == served.objects["train/001"]


@pytest.mark.parametrize(("method", "engine"), CASES)
def test_an_iterable_dataset_in_use_is_shared_out_among_workers(served: Served, method: str, engine: str) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=read,
        s3client_config=replace(CONFIG, engine=engine),
        enable_sharding=True,
    )
    mine = iter(dataset)
    assert next(mine)[1] == served.objects["train/000"]  # requests of the window are in flight now
    found = load(dataset, method)
    assert sorted(sample[:2] for sample in found) == sorted(served.objects.items())
    keys: dict[int, list[str]] = {}
    for key, _, pid in found:
        keys.setdefault(pid, []).append(key)
    every = list(served.objects)
    assert sorted(keys.values()) == [every[worker::2] for worker in range(2)]
    assert [sample[1] for sample in mine] == list(served.objects.values())[1:]


def test_without_sharding_each_worker_gets_everything(served: Served) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri, region=served.region, endpoint=served.endpoint, transform=read, s3client_config=CONFIG
    )
    found = load(dataset, METHODS[0])
    assert sorted(sample[0] for sample in found) == sorted([*served.objects, *served.objects])


def test_more_workers_than_objects_lose_nothing(served: Served) -> None:
    dataset = S3IterableDataset.from_objects(
        [f"s3://{served.bucket}/train/{index:03}" for index in range(2)],
        region=served.region,
        endpoint=served.endpoint,
        transform=read,
        s3client_config=CONFIG,
        enable_sharding=True,
    )
    found = load(dataset, METHODS[0], workers=4)
    assert sorted(sample[0] for sample in found) == ["train/000", "train/001"]


def test_an_error_in_a_worker_keeps_its_type_and_ends_the_loader(served: Served) -> None:
    dataset = S3IterableDataset.from_objects(
        f"s3://{served.bucket}/missing",
        region=served.region,
        endpoint=served.endpoint,
        transform=read,
        s3client_config=CONFIG,
    )
    with pytest.raises(FileNotFoundError, match="missing"):
        load(dataset, METHODS[0], workers=1)


def test_workers_that_persist_read_every_epoch(served: Served) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=read,
        s3client_config=CONFIG,
        enable_sharding=True,
    )
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=METHODS[0],
        timeout=120,
    )
    for _ in range(2):
        assert sorted(sample[0] for sample in loader) == list(served.objects)
    del loader
    gc.collect()
