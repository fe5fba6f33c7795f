"""The import names ``s3torchconnector``: the original's in its environment, this project's in ours."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed
from s3torchconnector import S3Checkpoint, S3ClientConfig, S3IterableDataset, S3MapDataset, S3ReaderConstructor
from s3torchconnector._s3client import S3Client

_CONFIG = S3ClientConfig(force_path_style=True)
_THREADS = 64


def _client(task: Task) -> Any:
    return S3Client(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)


def _constructor(task: Task) -> Any:
    return getattr(S3ReaderConstructor, task.options.get("reader", "default"))()


def _read_whole(reader: Any, task: Task) -> Any:
    if not task.options.get("into"):
        return reader.read()
    view = memoryview(fresh_map(task.size))
    at = 0
    while at < task.size:
        got = reader.readinto(view[at:])
        if got != task.size and task.options.get("strict"):
            raise OSError("a short readinto")
        if not got:
            break
        at += got
    return view


def large_get(task: Task) -> Subject:
    """One large object through a reader of the kind in the option ``reader``.

    With the option ``into`` by ``readinto``; with ``strict``, one that leaves some of it is an error.
    """
    client, constructor = _client(task), _constructor(task)

    def run(_: Sink) -> Any:
        reader = client.get_object(task.bucket, task.keys[0], reader_constructor=constructor)
        return _read_whole(reader, task)

    return Subject(run)


def serial(task: Task) -> Subject:
    """Objects one by one."""
    client = _client(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(client.get_object(task.bucket, key).read())

    return Subject(run)


def threads(task: Task) -> Subject:
    """Objects on a pool of threads, as users do who need more than one at a time."""
    client = _client(task)
    pool = ThreadPoolExecutor(_THREADS)

    def run(sink: Sink) -> None:
        for data in pool.map(lambda key: client.get_object(task.bucket, key).read(), task.keys):
            sink(data)

    return Subject(run)


def _uris(task: Task) -> list[str]:
    return [f"s3://{task.bucket}/{key}" for key in task.keys]


def iterable_dataset(task: Task) -> Subject:
    """Objects through the iterable dataset."""
    dataset = S3IterableDataset.from_objects(
        _uris(task),
        region=task.region,
        endpoint=task.endpoint,
        s3client_config=_CONFIG,
        transform=lambda item: item.read(),
    )

    def run(sink: Sink) -> None:
        for data in dataset:
            sink(data)

    return Subject(run)


def map_dataset(task: Task) -> Subject:
    """Objects through the map dataset, in batches as a ``DataLoader`` asks for them."""
    dataset = S3MapDataset.from_objects(
        _uris(task),
        region=task.region,
        endpoint=task.endpoint,
        s3client_config=_CONFIG,
        transform=lambda item: item.read(),
    )
    batch = task.options.get("batch", 100)

    def run(sink: Sink) -> None:
        for start in range(0, len(task.keys), batch):
            indices = list(range(start, min(start + batch, len(task.keys))))
            fetch: Any = getattr(dataset, "__getitems__", None)
            for data in fetch(indices) if fetch else [dataset[index] for index in indices]:
                sink(data)

    return Subject(run)


def torch_save(task: Task) -> Subject:
    """``torch.save`` into the writer."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    checkpoint = S3Checkpoint(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)

    def run(_: Sink) -> None:
        writer: Any
        with checkpoint.writer(_uris(task)[0]) as writer:
            torch.save(state, writer)

    return Subject(run, state=partial(memory_of, state))


def torch_load(task: Task) -> Subject:
    """``torch.load`` from the reader of the kind in the option ``reader``."""
    client, constructor = _client(task), _constructor(task)

    def run(_: Sink) -> Any:
        reader: Any
        with client.get_object(task.bucket, task.keys[0], reader_constructor=constructor) as reader:
            return torch.load(reader, weights_only=True)

    return Subject(run, parts=buffers)


def write(task: Task) -> Subject:
    """One object in writes of 1 MiB through the writer."""
    client = _client(task)
    data = io.BytesIO(bytes(task.size)).getbuffer()
    step = 1024 * 1024

    def run(_: Sink) -> None:
        with client.put_object(task.bucket, task.keys[0]) as writer:
            for start in range(0, task.size, step):
                writer.write(data[start : start + step])

    return Subject(run)


def listing(task: Task) -> Subject:
    """Every key under a prefix, page by page."""
    client = _client(task)

    def run(_: Sink) -> list[str]:
        return [info.key for page in client.list_objects(task.bucket, task.keys[0]) for info in page.object_info]

    return Subject(run, parts=listed)
