"""s3fs in a ``DataLoader``, by its synchronous interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s3torch.harness.bench.subjects.loading import (
    BATCH,
    Fetch,
    MapObjects,
    first_batch,
    iterable_epoch,
    map_epoch,
    prefix_of,
)
from s3torch.harness.bench.subjects.s3fs_peer import make_files
from s3torch.harness.bench.subjects.task import Subject, Task


def _open(task: Task) -> Fetch:
    files = make_files(task)

    def fetch(keys: Sequence[str]) -> Iterator[bytes]:
        for start in range(0, len(keys), BATCH):
            paths = [f"{task.bucket}/{key}" for key in keys[start : start + BATCH]]
            found = files.cat(paths, batch_size=task.window)
            for path in paths:
                yield found[path]

    return fetch


def map_loader(task: Task) -> Subject:
    """By index: the objects of a batch by one call."""
    return map_epoch(task, _open)


def iterable_loader(task: Task) -> Subject:
    """As a stream: a batch's objects by one call."""
    return iterable_epoch(task, _open)


def map_first(task: Task) -> Subject:
    """The first batch by index, after a listing of the whole prefix."""

    def make() -> MapObjects:
        found = make_files(task).find(f"{task.bucket}/{prefix_of(task)}")
        return MapObjects([path.partition("/")[2] for path in found], task, _open)

    return first_batch(make, task)
