"""An epoch of a ``DataLoader``, the same around every library: objects become tensors, and those batches.

A library without datasets of its own says how it fetches objects, and ``MapObjects`` and ``IterableObjects`` are what
its users write around that.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.util import Finalize
from typing import Any, TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from s3torch.harness.bench.subjects.measure import cpu_seconds, peak_bytes, reset_peak, resident_bytes
from s3torch.harness.bench.subjects.task import Sink, Subject, Task

BATCH = 32
"""Objects in a batch, where there are enough."""

Fetch: TypeAlias = Callable[[Sequence[str]], Iterable[bytes]]
"""Delivers the objects of some keys, in order."""
Open: TypeAlias = Callable[[Task], Fetch]
"""Connects; called in each process that fetches."""

# One thread stacks a batch, as in every worker: OpenMP's others spin while they wait for the next, on the core that the
# server needs, and would be counted.
torch.set_num_threads(1)
# Nobody writes into the samples.
warnings.filterwarnings("ignore", message="The given buffer is not writable")


def to_tensor(data: Any) -> torch.Tensor:
    """Return an object's bytes as a sample, without a copy."""
    return torch.frombuffer(data, dtype=torch.uint8)


def read_tensor(reader: Any) -> torch.Tensor:
    """Return all that a reader holds as a sample."""
    return to_tensor(reader.read())


def batch_of(task: Task) -> int:
    """Return how many objects make a batch: fewer where every worker would otherwise not get a whole one."""
    return min(BATCH, len(task.keys) // max(1, workers_of(task)))


def prefix_of(task: Task) -> str:
    """Return the folder that all keys lie in, with its slash."""
    return f"{task.keys[0].rpartition('/')[0]}/"


def workers_of(task: Task) -> int:
    """Return how many worker processes the ``DataLoader`` has: the option ``workers``."""
    count: int = task.options.get("workers", 0)
    return count


def dealt_keys(task: Task) -> list[str]:
    """Return the keys in such an order that they are delivered as ``task.keys`` has them.

    Workers share the objects of an iterable dataset out one by one and the ``DataLoader`` takes a batch of each in
    turn, so that it delivers them in another order than they are listed in.
    """
    workers, batch = max(1, workers_of(task)), batch_of(task)
    shards = [range(worker, len(task.keys), workers) for worker in range(workers)]
    delivered = [
        index for start in range(0, len(shards[0]), batch) for shard in shards for index in shard[start : start + batch]
    ]
    keys = [""] * len(task.keys)
    for index, key in zip(delivered, task.keys, strict=True):
        keys[index] = key
    return keys


class _Fetcher:
    """Fetches in whichever process asks, each with connections of its own."""

    def __init__(self, task: Task, opener: Open) -> None:
        self._task = task
        self._open = opener
        self._pid = 0
        self._fetch: Fetch | None = None

    def __call__(self, keys: Sequence[str]) -> Iterable[bytes]:
        if self._fetch is None or self._pid != os.getpid():
            self._fetch, self._pid = self._open(self._task), os.getpid()
        return self._fetch(keys)


class MapObjects(Dataset[torch.Tensor]):
    """Objects by index; those of a batch are fetched by one call."""

    def __init__(self, keys: Sequence[str], task: Task, opener: Open) -> None:
        self._keys = keys
        self._fetch = _Fetcher(task, opener)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[torch.Tensor]:
        """Return a batch's samples."""
        return [to_tensor(data) for data in self._fetch([self._keys[index] for index in indices])]


class IterableObjects(IterableDataset[torch.Tensor]):
    """Objects one after the other, shared out among the workers one by one, or to each of them all."""

    def __init__(self, keys: Iterable[str], task: Task, opener: Open, *, shared: bool = True) -> None:
        self._keys = keys
        self._fetch = _Fetcher(task, opener)
        self._is_shared = shared

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info and self._is_shared else (0, 1)
        keys = [key for number, key in enumerate(self._keys) if number % workers == worker]
        return map(to_tensor, self._fetch(keys))


class WorkerGauge:
    """Gathers what each worker has held at most beyond what it had when it began; a ``worker_init_fn``."""

    def __init__(self, workers: int) -> None:
        self._extra = torch.zeros(max(1, workers), dtype=torch.int64).share_memory_()

    def __call__(self, worker: int) -> None:
        """Begin, in a worker."""
        reset_peak()
        Finalize(None, self._note, args=(worker, resident_bytes()), exitpriority=100)

    def _note(self, worker: int, resident: int) -> None:
        self._extra[worker] = max(0, peak_bytes() - resident)

    def total(self) -> int:
        """Return the bytes that all of them have held; right after they have ended."""
        return int(self._extra.sum())


def _loader(
    dataset: Dataset[Any],
    task: Task,
    gauge: WorkerGauge,
    batch: int,
    loader_type: Callable[..., Iterable[Any]] = DataLoader,
) -> Iterable[Any]:
    workers = workers_of(task)
    return loader_type(dataset, batch_size=batch, num_workers=workers, worker_init_fn=gauge if workers else None)


def epoch(dataset: Dataset[Any], task: Task, loader_type: Callable[..., Iterable[Any]] = DataLoader) -> Subject:
    """One epoch, the start and the end of the workers included.

    Args:
        dataset: What is read; its samples come in the order of the task's keys.
        task: How.
        loader_type: ``DataLoader``, or what is made as one.
    """
    gauge = WorkerGauge(workers_of(task))
    loader = _loader(dataset, task, gauge, batch_of(task), loader_type)

    def run(sink: Sink) -> None:
        for batch in loader:
            sink(batch.view(-1).numpy().data)

    return Subject(run, workers_peak=gauge.total)


def first_batch(make: Callable[[], Dataset[Any]], task: Task) -> Subject:
    """The first batch, of all keys that the task names, from nothing: a new dataset, its listing, its workers.

    The time is that until the batch is there, the processor time that until the workers have ended.
    """
    gauge = WorkerGauge(workers_of(task))

    def run(sink: Sink) -> tuple[float, float]:
        start, cpu = time.perf_counter(), cpu_seconds()
        batches = iter(_loader(make(), task, gauge, len(task.keys)))
        sink(next(batches).view(-1).numpy().data)
        seconds = time.perf_counter() - start
        del batches
        return seconds, cpu_seconds() - cpu

    return Subject(run, parts=lambda _: [], own_time=lambda times: times, workers_peak=gauge.total)


def map_epoch(task: Task, opener: Open) -> Subject:
    """One epoch of a library that only fetches, by index."""
    return epoch(MapObjects(task.keys, task, opener), task)


def iterable_epoch(task: Task, opener: Open) -> Subject:
    """One epoch of a library that only fetches, as a stream."""
    return epoch(IterableObjects(dealt_keys(task), task, opener), task)
