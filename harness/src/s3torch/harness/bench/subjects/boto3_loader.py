"""boto3 in a ``DataLoader``, as its users write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from s3torch.harness.bench.subjects.boto3_peer import make_client
from s3torch.harness.bench.subjects.loading import Fetch, MapObjects, first_batch, iterable_epoch, map_epoch, prefix_of
from s3torch.harness.bench.subjects.task import Subject, Task


def _open(task: Task) -> Fetch:
    threads = task.options.get("threads", 1)
    client = make_client(task, connections=threads)

    def get(key: str) -> bytes:
        data: bytes = client.get_object(Bucket=task.bucket, Key=key)["Body"].read()
        return data

    if threads == 1:
        return lambda keys: map(get, keys)
    pool = ThreadPoolExecutor(threads)

    def fetch(keys: Sequence[str]) -> Iterator[bytes]:
        return pool.map(get, keys)

    return fetch


def map_loader(task: Task) -> Subject:
    """By index: one by one, or on ``threads`` (option)."""
    return map_epoch(task, _open)


def iterable_loader(task: Task) -> Subject:
    """As a stream: one by one, or on ``threads`` (option)."""
    return iterable_epoch(task, _open)


def map_first(task: Task) -> Subject:
    """The first batch by index, after a listing of the whole prefix."""

    def make() -> MapObjects:
        pages = make_client(task).get_paginator("list_objects_v2").paginate(Bucket=task.bucket, Prefix=prefix_of(task))
        return MapObjects([each["Key"] for page in pages for each in page["Contents"]], task, _open)

    return first_batch(make, task)
