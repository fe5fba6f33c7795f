"""obstore in a ``DataLoader``: a window of requests on asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from s3torch.harness.bench.subjects.loading import Fetch, MapObjects, first_batch, iterable_epoch, map_epoch, prefix_of
from s3torch.harness.bench.subjects.obstore_peer import make_store
from s3torch.harness.bench.subjects.task import Subject, Task


def _open(task: Task) -> Fetch:
    store = make_store(task)
    loop = asyncio.new_event_loop()

    async def get(key: str) -> bytes:
        answer = await store.get_async(key)
        return bytes(await answer.bytes_async())

    def fetch(keys: Sequence[str]) -> Iterator[bytes]:
        waiting = iter(keys)
        flying = deque(loop.create_task(get(key)) for key in islice(waiting, task.window))
        while flying:
            data = loop.run_until_complete(flying.popleft())
            flying.extend(loop.create_task(get(key)) for key in islice(waiting, 1))
            yield data

    return fetch


def map_loader(task: Task) -> Subject:
    """By index: the objects of a batch, ``window`` at once."""
    return map_epoch(task, _open)


def iterable_loader(task: Task) -> Subject:
    """As a stream, ``window`` in flight in each worker."""
    return iterable_epoch(task, _open)


def map_first(task: Task) -> Subject:
    """The first batch by index, after a listing of the whole prefix."""

    def make() -> MapObjects:
        chunks = make_store(task).list(prefix_of(task).rstrip("/"))
        return MapObjects([each["path"] for chunk in chunks for each in chunk], task, _open)

    return first_batch(make, task)
