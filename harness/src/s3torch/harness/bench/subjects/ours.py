"""This project, by its public API: the client's own, and the original's import names."""

from __future__ import annotations

import io
from typing import Any

import torch

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import GetRequest, S3Client, S3ClientConfig
from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.state import buffers, make_state
from s3torch.harness.bench.subjects.task import Sink, Subject, Task
from s3torchconnector import S3IterableDataset, S3MapDataset, S3ReaderConstructor
from s3torchconnector._s3client import S3Client as ConnectorClient
from s3torchconnector.s3reader.dcp_optimized import ItemRange

_CONFIG = S3ClientConfig(force_path_style=True)


def _connector(task: Task) -> Any:
    return ConnectorClient(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)


def _client(task: Task) -> S3Client:
    return S3Client(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)


def _constructor(task: Task) -> Any:
    return getattr(S3ReaderConstructor, task.options.get("reader", "default"))()


def large_get(task: Task) -> Subject:
    """One large object through a reader of the kind in the option ``reader``."""
    client, constructor = _connector(task), _constructor(task)

    def run(_: Sink) -> Any:
        reader = client.get_object(task.bucket, task.keys[0], reader_constructor=constructor)
        if not task.options.get("into"):
            return reader.read()
        view = memoryview(fresh_map(task.size))
        if reader.readinto(view) != task.size:
            raise OSError("a short readinto")
        return view

    return Subject(run)


def items(task: Task) -> Subject:
    """One large object by the items of 4 MiB of a load plan, through the DCP-optimized reader."""
    client, step = _connector(task), 4 * 1024 * 1024
    starts = range(0, task.size, step)
    constructor = S3ReaderConstructor.dcp_optimized()
    constructor.set_item_ranges_by_file(
        {task.keys[0]: [ItemRange(start, min(start + step, task.size)) for start in starts]}
    )

    def run(_: Sink) -> Any:
        view = memoryview(fresh_map(task.size))
        reader = client.get_object(task.bucket, task.keys[0], reader_constructor=constructor)
        for start in starts:
            reader.seek(start)
            target = view[start : start + step]
            if reader.readinto(target) != target.nbytes:
                raise OSError("a short readinto")
        return view

    return Subject(run)


def serial(task: Task) -> Subject:
    """Objects one by one, by the original's API."""
    client = _connector(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(client.get_object(task.bucket, key).read())

    return Subject(run)


def many(task: Task) -> Subject:
    """Objects in order, ``window`` in flight, by ``get_many``."""
    client = _client(task)

    def run(sink: Sink) -> None:
        requests = (GetRequest(task.bucket, key) for key in task.keys)
        for result in client.get_many(requests, window=task.window):
            sink(result.data)

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


def _checkpoint(task: Task) -> S3Checkpoint:
    return S3Checkpoint(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)


def torch_save(task: Task) -> Subject:
    """``torch.save`` into the writer."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    checkpoint = _checkpoint(task)

    def run(_: Sink) -> None:
        writer: Any
        with checkpoint.writer(_uris(task)[0]) as writer:
            torch.save(state, writer)

    return Subject(run)


def checkpoint_save(task: Task) -> Subject:
    """``S3Checkpoint.save``."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    checkpoint = _checkpoint(task)
    return Subject(lambda _: checkpoint.save(state, _uris(task)[0]))


def torch_load(task: Task) -> Subject:
    """``torch.load`` from the reader."""
    checkpoint = _checkpoint(task)

    def run(_: Sink) -> Any:
        reader: Any
        with checkpoint.reader(_uris(task)[0]) as reader:
            return torch.load(reader, weights_only=True)

    return Subject(run, parts=buffers)


def checkpoint_load(task: Task) -> Subject:
    """``S3Checkpoint.load``."""
    checkpoint = _checkpoint(task)
    return Subject(lambda _: checkpoint.load(_uris(task)[0]), parts=buffers)


def write(task: Task) -> Subject:
    """One object in writes of 1 MiB through the writer."""
    client = _connector(task)
    data = io.BytesIO(bytes(task.size)).getbuffer()
    step = 1024 * 1024

    def run(_: Sink) -> None:
        with client.put_object(task.bucket, task.keys[0]) as writer:
            for start in range(0, task.size, step):
                writer.write(data[start : start + step])

    return Subject(run)
