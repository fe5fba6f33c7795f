"""Laws of each style of dataset, in the process that made it."""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, IterableDataset, Subset

from s3torch.client import ObjectNotFoundError
from s3torch.harness._law_processes import read_sample
from s3torch.harness.conformance._dataset_laws import (
    OBJECTS,
    PREFIX,
    MakeDataset,
    load,
    open_sockets,
)
from s3torch.harness.conformance._dataset_samples import SampleLaws
from s3torch.harness.conformance.arrangement import Arrangement

__all__ = ["IterableLaws", "MapLaws"]

_EVERY = list(OBJECTS.items())
_END_SECONDS = 10.0


class MapLaws(SampleLaws):
    """Datasets by index."""

    def samples(self, dataset: Any) -> Iterator[Any]:
        """Give one sample after the other, by index."""
        return (dataset[index] for index in range(len(dataset)))

    def test_is_a_sequence(self, make_dataset: MakeDataset, bucket: str) -> None:
        """It has a length, takes indices from either end, and nothing beyond: `IndexError`."""
        dataset, count = make_dataset(bucket, PREFIX, read_sample), len(_EVERY)
        assert len(dataset) == count
        for index in (0, 5, count - 1, -1, -count, np.int64(3)):
            assert dataset[index] == _EVERY[index]
        for index in (count, -count - 1, 10**9):
            with pytest.raises(IndexError):
                dataset[index]
        for wrong in ("1", None, 1.5):
            with pytest.raises(TypeError):
                dataset[wrong]

    def test_an_index_means_the_same_object_for_good(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """An object that comes later shifts no index, here or in a pickled copy, as workers have it."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert len(dataset) == len(_EVERY)
        arrangement.put(bucket, f"{PREFIX}0", b"a newcomer, before most")
        copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301  # made on this line
        for same in (dataset, copy):
            assert list(self.samples(same)) == _EVERY

    def test_batches_are_what_single_samples_are(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Where there is ``__getitems__``, it gives the samples of its indices, in their order, doubles included."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        if not hasattr(dataset, "__getitems__"):
            pytest.skip("it has no __getitems__, and a DataLoader asks for samples one by one")
        for indices in ([], [3], [7, 1, -1, 1, 0], range(len(_EVERY))):
            assert dataset.__getitems__(indices) == [_EVERY[index] for index in indices]
        with pytest.raises(IndexError):
            dataset.__getitems__([0, len(_EVERY)])

    def test_serves_samplers_and_subsets(self, make_dataset: MakeDataset, bucket: str) -> None:
        """A `DataLoader` that shuffles, and one of a subset, get the samples they ask for."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        shuffled = [sample for batch in load(dataset, 0, shuffle=True) for sample in batch]
        assert sorted(shuffled) == sorted(_EVERY)
        chosen = [9, 2, 4]
        assert load(Subset(dataset, chosen), 0) == [[_EVERY[index] for index in chosen]]

    def test_an_object_that_is_gone_fails_for_good(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """Its index raises, alone, in a batch and in a `DataLoader`, every time; all others go on."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert len(dataset) == len(_EVERY)
        gone = _EVERY[4][0]
        arrangement.remove(bucket, gone)
        for _ in range(2):
            for ask in (lambda: dataset[4], lambda: load(Subset(dataset, [3, 4, 5]), 0)):
                with pytest.raises(ObjectNotFoundError) as caught:
                    ask()
                assert caught.value.key == gone
        assert [dataset[3], dataset[5]] == [_EVERY[3], _EVERY[5]]


class IterableLaws(SampleLaws):
    """Datasets one after the other."""

    def samples(self, dataset: Any) -> Iterator[Any]:
        """Give one sample after the other, by iteration."""
        return iter(dataset)

    def test_is_an_iterable_dataset(self, make_dataset: MakeDataset, bucket: str) -> None:
        """`DataLoader` takes it for one that is iterated; its iterators end, and stay at their end."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert isinstance(dataset, IterableDataset)
        source = iter(dataset)
        assert list(source) == _EVERY
        assert list(source) == []

    def test_iterators_do_not_disturb_each_other(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Two that are read in turn give what each would give alone."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert list(zip(dataset, dataset, strict=True)) == [(sample, sample) for sample in _EVERY]

    def test_sharing_out_in_one_process_changes_nothing(self, make_dataset: MakeDataset, bucket: str) -> None:
        """A single process without workers is one shard: all objects, in order."""
        assert list(make_dataset(bucket, PREFIX, read_sample, share=True)) == _EVERY

    def test_an_abandoned_iterator_leaves_nothing(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Whoever stops in the middle keeps no thread, and sockets do not add up; it can begin again."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        _abandon(dataset)
        threads, sockets = threading.active_count(), open_sockets()
        for _ in range(5):
            _abandon(dataset)
        deadline = time.monotonic() + _END_SECONDS
        while threading.active_count() > threads and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= threads
        found = open_sockets()
        # Connections that were idle when it stopped are kept for the next: at most as many as it had at once.
        assert sockets is None or found is None or found <= sockets + self.reads_ahead
        assert list(dataset) == _EVERY


def _abandon(dataset: Any) -> None:
    source = iter(dataset)
    assert [next(source) for _ in range(3)] == _EVERY[:3]
    del source
    loader = iter(DataLoader(dataset, batch_size=2, collate_fn=list))
    assert next(loader) == _EVERY[:2]
    del loader
    gc.collect(1)
