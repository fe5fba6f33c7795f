"""Laws of a dataset among `DataLoader` workers and ranks: each object once, whoever reads it."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch.distributed
from torch.utils.data import DataLoader

from s3torch.client import ObjectNotFoundError
from s3torch.harness._law_processes import read_in_process, read_sample
from s3torch.harness.conformance._dataset_laws import (
    OBJECTS,
    PREFIX,
    MakeDataset,
    load,
)
from s3torch.harness.conformance._dataset_styles import IterableLaws, MapLaws
from s3torch.harness.conformance._laws import START_METHODS
from s3torch.harness.conformance.arrangement import Arrangement

__all__ = ["IterableWorkerLaws", "MapWorkerLaws"]

_EVERY = list(OBJECTS.items())
_WORLD_SIZE = 2
_RANK_SECONDS = 90.0


class MapWorkerLaws(MapLaws):
    """Batches made by workers."""

    @pytest.mark.timeout(300)  # importing torch in every worker takes long on a busy machine
    @START_METHODS
    def test_workers_give_every_sample_in_order(self, make_dataset: MakeDataset, bucket: str, method: str) -> None:
        """However workers start, and with the dataset used before: every batch in order, and the parent goes on."""
        self.startable(method)
        dataset = make_dataset(bucket, PREFIX, read_in_process)
        assert dataset[0] == (*_EVERY[0], os.getpid())
        batches = load(dataset, 2, method, batch_size=3)
        assert [(key, data) for batch in batches for key, data, _ in batch] == _EVERY
        assert len({process for batch in batches for _, _, process in batch} - {os.getpid()}) == 2
        assert dataset[-1] == (*_EVERY[-1], os.getpid())

    def test_an_error_in_a_worker_names_the_object(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """What a worker cannot read is raised where its batch is due, with its type and key."""
        self.startable("fork")
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert len(dataset) == len(_EVERY)
        gone = _EVERY[5][0]
        arrangement.remove(bucket, gone)
        _check_error_in_worker(dataset, gone)


class IterableWorkerLaws(IterableLaws):
    """Objects shared out among workers and ranks."""

    @pytest.mark.timeout(300)  # importing torch in every worker takes long on a busy machine
    @START_METHODS
    def test_workers_share_out_the_objects(self, make_dataset: MakeDataset, bucket: str, method: str) -> None:
        """However workers start, and with an iterator open in the parent: each object goes to one of them, in order."""
        self.startable(method)
        dataset = make_dataset(bucket, PREFIX, read_in_process, share=True)
        mine = iter(dataset)
        assert next(mine)[:2] == _EVERY[0]
        _check_shared([sample for batch in load(dataset, 2, method, batch_size=3) for sample in batch], 2)
        assert [sample[:2] for sample in mine] == _EVERY[1:]

    @pytest.mark.parametrize("workers", [1, 4])
    def test_any_number_of_workers_shares_out_the_objects(
        self, make_dataset: MakeDataset, bucket: str, workers: int
    ) -> None:
        """One or several: disjoint and complete, epoch after epoch."""
        self.startable("fork")
        dataset = make_dataset(bucket, PREFIX, read_in_process, share=True)
        for _ in range(2):
            _check_shared([sample for batch in load(dataset, workers, "fork") for sample in batch], workers)

    def test_more_workers_than_objects_lose_nothing(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Those that have nothing to do give nothing, and the object is given once."""
        self.startable("fork")
        dataset = make_dataset(bucket, f"{PREFIX}z", read_sample, share=True)
        assert load(dataset, 3, "fork") == [[(f"{PREFIX}z", OBJECTS[f"{PREFIX}z"])]]

    def test_workers_that_persist_read_every_epoch(self, make_dataset: MakeDataset, bucket: str) -> None:
        """A worker that is kept gives its share anew in every epoch; one abandoned in between costs nothing."""
        self.startable("fork")
        dataset = make_dataset(bucket, PREFIX, read_in_process, share=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as `load` does
            loader = DataLoader(
                dataset,
                batch_size=None,
                num_workers=2,
                persistent_workers=True,
                multiprocessing_context="fork",
                timeout=60,
            )
            _check_shared(list(loader), 2)
            assert next(iter(loader))[0] in OBJECTS
            _check_shared(list(loader), 2)
            del loader

    def test_without_sharing_out_each_worker_gives_everything(self, make_dataset: MakeDataset, bucket: str) -> None:
        """As torch documents it of iterable datasets that do not look at their worker."""
        self.startable("fork")
        dataset = make_dataset(bucket, PREFIX, read_sample)
        samples = [sample for batch in load(dataset, 2, "fork") for sample in batch]
        assert sorted(samples) == sorted(_EVERY * 2)

    def test_an_error_in_a_worker_names_the_object(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """What a worker cannot read is raised where its batch is due, with its type and key."""
        self.startable("fork")
        keys = [f"gone/{number:03}" for number in range(self.reads_ahead + 4)]
        for key in keys:
            arrangement.put(bucket, key, b"data")

        def transform(reader: Any) -> tuple[str, bytes]:
            if reader.key == keys[0]:
                arrangement.remove(bucket, keys[-2])  # by now it is listed, and not yet fetched
            return read_sample(reader)

        _check_error_in_worker(make_dataset(bucket, "gone/", transform), keys[-2])

    @pytest.mark.timeout(300)  # the ranks make workers of their own
    def test_ranks_and_their_workers_share_out_the_objects(
        self, make_dataset: MakeDataset, bucket: str, tmp_path: Path
    ) -> None:
        """Among the ranks of torch's process group, each without workers and with two: disjoint and complete."""
        self.startable("fork")
        if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
            pytest.skip("torch without gloo")
        dataset = make_dataset(bucket, PREFIX, read_in_process, share=True)
        found = _in_ranks(dataset, (tmp_path / "rendezvous").as_uri())
        for way in (0, 1):
            _check_shared([sample for epochs in found for sample in epochs[way]], _WORLD_SIZE * (1 + way))


def _check_shared(samples: list[Any], processes: int) -> None:
    """Hold a sharing out to being exact, of as many processes as there are, each in order."""
    assert sorted(tuple(sample[:2]) for sample in samples) == sorted(_EVERY)  # torch makes lists of tuples
    shares = defaultdict(list)
    for key, _, process in samples:
        shares[process].append(key)
    order = list(OBJECTS)
    assert all(keys == sorted(keys, key=order.index) for keys in shares.values())
    assert len(shares) == processes, "some process has nothing to do"


def _check_error_in_worker(dataset: Any, gone: str) -> None:
    with pytest.raises(ObjectNotFoundError) as caught:
        load(dataset, 1, "fork", batch_size=1)
    assert gone in str(caught.value)


def _in_ranks(dataset: Any, rendezvous: str) -> list[list[list[Any]]]:
    """Return, for each rank, its samples without workers and with two."""
    context = multiprocessing.get_context("fork")
    ranks = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        for rank in range(_WORLD_SIZE):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_be_rank, args=(rank, rendezvous, dataset, sender))
            process.start()
            sender.close()
            ranks.append((process, receiver))
    try:
        found = []
        for _, receiver in ranks:
            assert receiver.poll(_RANK_SECONDS), "a rank hangs"
            result = receiver.recv()
            assert not isinstance(result, str), result
            found.append(result)
        return found
    finally:
        for process, receiver in ranks:
            receiver.close()
            process.kill()
            process.join(_RANK_SECONDS)


def _be_rank(rank: int, rendezvous: str, dataset: Any, sender: Connection) -> None:
    try:
        torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=_WORLD_SIZE)
        warnings.simplefilter("ignore")
        found: Any = [
            list(DataLoader(dataset, batch_size=None)),
            list(DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)),
        ]
        torch.distributed.barrier()
    except BaseException:  # noqa: BLE001  # shown in the parent's assertion
        found = traceback.format_exc()
    sender.send(found)
    sender.close()
