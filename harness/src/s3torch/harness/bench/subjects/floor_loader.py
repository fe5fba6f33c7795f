"""The floor of a ``DataLoader``: objects by plain sockets, in as many processes as there are workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s3torch.harness.bench.subjects.floor_http import ManyGet
from s3torch.harness.bench.subjects.floor_listing import Lister
from s3torch.harness.bench.subjects.loading import (
    Fetch,
    IterableObjects,
    first_batch,
    iterable_epoch,
    map_epoch,
    prefix_of,
)
from s3torch.harness.bench.subjects.task import Subject, Task


def _open(task: Task) -> Fetch:
    getter = ManyGet(task)

    def fetch(keys: Sequence[str]) -> Iterator[bytes]:
        return getter.get(getter.requests(keys))

    return fetch


def map_loader(task: Task) -> Subject:
    """By index: the objects of a batch at once."""
    return map_epoch(task, _open)


def iterable_loader(task: Task) -> Subject:
    """As a stream: a window of objects in each worker."""
    return iterable_epoch(task, _open)


def _first_page(task: Task) -> list[str]:
    return Lister(task).keys(prefix_of(task), pages=1)


def iterable_first(task: Task) -> Subject:
    """The first batch as a stream, of the first page of the listing."""
    return first_batch(lambda: IterableObjects(_first_page(task), task, _open, shared=False), task)
