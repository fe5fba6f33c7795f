"""Two processes of a gloo group, each with its own `DataLoader` workers."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
import torch.distributed
from torch.utils.data import DataLoader

from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Served

pytestmark = [
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.timeout(300),  # importing torch in every process takes long on a busy machine
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
    ),
]

WORLD_SIZE = 2
# How many workers: two that are forks of their rank, and one that is not and has to import torch first.
WORKERS = {"spawn": 1}
if "fork" in multiprocessing.get_all_start_methods():
    WORKERS["fork"] = 2
Keys: TypeAlias = dict[str, list[str]]
Found: TypeAlias = "Queue[tuple[int, Keys]]"


def key_of(reader: S3Reader) -> str:
    reader.read()
    return reader.key


def train(rank: int, rendezvous: str, dataset: S3IterableDataset, found: Found) -> None:
    """Be one rank: the dataset was made before there was a process group."""
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD_SIZE)
    try:
        keys = {"no workers": list(dataset)}
        for method, count in WORKERS.items():
            workers = DataLoader(
                dataset, batch_size=None, num_workers=count, multiprocessing_context=method, timeout=120
            )
            keys[method] = list(workers)
        found.put((rank, keys))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_and_their_workers_share_out_the_objects(served: Served, tmp_path: Path) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=key_of,
        s3client_config=S3ClientConfig(force_path_style=True, operation_timeout=30),
        enable_sharding=True,
    )
    rendezvous = (tmp_path / "rendezvous").as_uri()
    context = multiprocessing.get_context("spawn")
    found: Found = context.Queue()
    ranks = [context.Process(target=train, args=(rank, rendezvous, dataset, found)) for rank in range(WORLD_SIZE)]
    try:
        for process in ranks:
            process.start()
        keys = dict(found.get(timeout=200) for _ in ranks)
        for process in ranks:
            process.join(timeout=120)
        assert [process.exitcode for process in ranks] == [0] * WORLD_SIZE
    finally:
        for process in ranks:
            process.kill()
    every = list(served.objects)
    for rank in range(WORLD_SIZE):
        assert set(keys[rank]) == {"no workers", *WORKERS}
        for how, its_keys in keys[rank].items():
            assert sorted(its_keys) == every[rank::WORLD_SIZE], how
