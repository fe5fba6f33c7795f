"""What a dataset that is iterated has beside its objects: epochs, their order, shards, and how far each has come."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from s3torch.client import S3BucketKeyData
from s3torch.datasets._dataset import S3Dataset
from s3torch.datasets._epoch_state import ALL_WORKERS, EpochState, check_same
from s3torch.datasets._epochs import Epochs, Progress
from s3torch.datasets._labelled import LabelColumn
from s3torch.datasets._objects import index_objects, objects_of_index
from s3torch.datasets._on_error import SKIPPED
from s3torch.datasets._order import EpochOrder, check_seed
from s3torch.datasets._sharding import (
    Consumer,
    ProcessGroup,
    Shard,
    check_group,
    current_consumer,
    current_process_group,
    shard_of,
)
from s3torch.datasets._share import Uneven, check_uneven, share_of, share_places, taken_after
from s3torch.datasets.index import S3Index

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EpochDataset"]

# More samples than anybody has: what a dataset that was not listed may hold.
_ENDLESS = 2**62


class EpochDataset(S3Dataset):
    """Objects that are visited epoch by epoch, each by one of those that iterate."""

    _enable_sharding: bool

    def _begin_epochs(
        self,
        *,
        shuffle: bool,
        seed: int,
        uneven: Uneven,
        index: bool,
        shard: tuple[int, int] | None,
        label: str | None,
    ) -> None:
        """Check the options, and find out which objects there are if any of them needs to know."""
        check_seed(seed)
        check_uneven(uneven)
        self._group = None if shard is None else check_group(shard)
        self._parents: ProcessGroup | None = None
        self._uneven = uneven
        self._epochs = Epochs()
        self._index: S3Index | None = None
        self._fresh = EpochState(seed=seed if shuffle else None)
        self._labels: LabelColumn | None = None
        if index or shuffle or uneven != "keep" or label is not None:
            self._index = index_objects(self._client, self._get_dataset_objects)
            self._get_dataset_objects = objects_of_index(self._index)
            self._fresh = replace(self._fresh, length=len(self._index), fingerprint=self._index.fingerprint)
            if label is not None:
                self._labels = LabelColumn(self._index, label)

    @property
    def index(self) -> S3Index:
        """The objects, in the order of the plain dataset; one that was made without an index lists them now."""
        if self._index is not None:
            return self._index
        return index_objects(self._client, self._get_dataset_objects)

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return self._epochs.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the iterations that follow, also of workers that are running already.

        Args:
            epoch: The epoch, from 0. Progress in another epoch that was loaded is dropped, progress in this one is not.

        Raises:
            ValueError: It is negative.
        """
        self._epochs.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the latest iteration in this process has come.

        Returns:
            A flat dict of a few dozen bytes, which goes into any checkpoint. That of one rank counts for all ranks, if
            they step alike. That of one ``DataLoader`` worker counts for that worker alone; `merge_states` makes one
            of all workers'.

        Raises:
            RuntimeError: Workers of a ``DataLoader`` iterate, and this process does not. Ask the ``state_dict`` of a
                ``StatefulDataLoader``, or `state_after`.
        """
        return self._epochs.state(self._fresh).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration, here or in the workers of one ``DataLoader``, go on where a state had come to.

        Exactly the samples follow that were not consumed. As many ranks and workers as before go on each with its own;
        other numbers share out what is left anew.

        Args:
            state: What `state_dict`, `merge_states` or `state_after` returned.

        Raises:
            TypeError: It is no dict.
            ValueError: It is the state of something else: other objects, another order.
        """
        found = EpochState.from_dict(state)
        check_same(found, self._fresh)
        self._epochs.load(found)

    def state_after(
        self, batches: int, *, batch_size: int | None, num_workers: int = 0, drop_last: bool = False
    ) -> dict[str, Any]:
        """Return what is consumed once a plain ``DataLoader`` has given some batches; see also `resume.state_after`.

        Args:
            batches: How many, in the present iteration.
            batch_size: Samples in each; None where each sample comes by itself.
            num_workers: The loader's workers.
            drop_last: Whether the loader leaves out batches that are not full.

        Returns:
            A state for `load_state_dict`; that of one rank counts for all, if they step alike.

        Raises:
            ValueError: There are not so many batches, or every worker gives every object.
        """
        workers = self._workers(num_workers)
        shares = [self._share(state) - state.taken[0] for state in workers]
        given = taken_after(batches, batch_size or 1, shares, drop_last=drop_last)
        taken = tuple(state.taken[0] + count for state, count in zip(workers, given, strict=True))
        return replace(workers[0], worker=ALL_WORKERS, taken=taken).to_dict()

    def count_batches(self, *, batch_size: int | None, num_workers: int = 0, drop_last: bool = False) -> int:
        """Return how many batches a ``DataLoader`` gives this rank.

        Args:
            batch_size: Samples in each; None where each sample comes by itself.
            num_workers: The loader's workers.
            drop_last: Whether the loader leaves out batches that are not full.

        Returns:
            Their number in an epoch, or, after a state of other numbers of ranks or workers, in what was left.

        Raises:
            TypeError: Nobody has counted the objects: the dataset has no index.
            ValueError: Every worker gives every object.
        """
        if self._fresh.length is None:
            raise TypeError("a dataset without an index has no length: make it with index=True")
        shares = [self._share(state) for state in self._workers(num_workers)]
        size = batch_size or 1
        return sum(share // size if drop_last else -(-share // size) for share in shares)

    def goes_on_alike(self, state: Mapping[str, Any], num_workers: int) -> bool:
        """Tell whether a state is one of as many ranks and workers as there are now."""
        found, consumer = EpochState.from_dict(state), self._consumer()
        shares = max(1, num_workers) if consumer.sharded else 1
        return (found.ranks, found.workers) == (consumer.group.world_size, shares)

    @property
    def has_begun(self) -> bool:
        """Whether a part of the epoch was consumed when the present or next iteration began."""
        start = self._epochs.start(self._fresh)
        return bool(start.base.count() or any(start.taken))

    def _workers(self, number: int) -> list[EpochState]:
        """Return where the present iteration begins for each worker of this rank."""
        consumer = self._consumer()
        if number > 1 and not consumer.sharded:
            raise ValueError(
                "without sharding every worker gives every object, each at its own place: make the dataset with "
                "enable_sharding=True or index=True"
            )
        start, group, count = self._epochs.start(self._fresh), consumer.group, max(1, number)
        return [start.continued(group.world_size, count, group.rank, worker) for worker in range(count)]

    def _share(self, state: EpochState) -> int:
        """Return how many objects one consumer visits."""
        if state.length is None:
            return _ENDLESS
        return share_of(state.base.left(state.length), _shard(state), self._uneven)

    def _consumer(self) -> Consumer:
        indexed = self._index is not None
        return current_consumer(
            sharded=indexed or self._enable_sharding or self._group is not None,
            explicit=self._group,
            parents=self._parents,
            environment=indexed,
        )

    def _items(self, start: EpochState) -> Iterator[S3BucketKeyData]:
        """Name the objects that one consumer visits, in its order."""
        shard, taken = _shard(start), start.taken[0]
        index = self._index
        if index is None:
            listed = self._objects()
            if start.base.count():
                listed = (item for place, item in enumerate(listed) if place not in start.base)
            return islice(listed, shard.index + taken * shard.count, None, shard.count)
        order = EpochOrder(len(index), start.seed, start.epoch)
        blocks = share_places(start.base, len(index), shard, self._uneven, taken)
        give = index.items if self._labels is None else self._labels.items
        return (item for places in blocks for item in give(order.at(places)))

    def _visit(self) -> Iterator[Any]:
        """Decide what to visit, now, and return an iterator of the samples."""
        progress = self._epochs.begin(self._fresh, self._consumer())
        return self._count(self._items(progress.start), progress)

    def _count(self, items: Iterator[S3BucketKeyData], progress: Progress) -> Iterator[Any]:
        """Yield the samples, and count the objects that have had their turn."""
        with closing(self._outcomes(items)) as outcomes:
            for sample in outcomes:
                progress.taken += 1
                if sample is not SKIPPED:
                    given = [sample]  # handed on: it must not live longer than the caller wants
                    del sample
                    yield given.pop()

    def _detached(self) -> Self:
        """Return a copy whose epochs and states are its own: workers of a mixture go through different ones."""
        twin = copy.copy(self)
        twin.__dict__["_epochs"] = Epochs()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as configuration, with this process's rank: a worker that is no fork cannot ask for it."""
        return {**self.__dict__, "_parents": current_process_group()}


def _shard(state: EpochState) -> Shard:
    return shard_of(ProcessGroup(state.rank, state.ranks), state.worker, state.workers)
