"""What only this project has, by its public API."""

from __future__ import annotations

from functools import partial
from typing import Any

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import GetRequest, S3Client, S3ClientConfig
from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task
from s3torch.readers import ItemRange, ReaderClient, S3ReaderConstructor

_CONFIG = S3ClientConfig(force_path_style=True)


def items(task: Task) -> Subject:
    """One large object by the items of 4 MiB of a load plan, through the DCP-optimized reader."""
    client, step = ReaderClient(task.region, endpoint=task.endpoint, s3client_config=_CONFIG), 4 * 1024 * 1024
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


def many(task: Task) -> Subject:
    """Objects in order, ``window`` in flight, by ``get_many``."""
    client = S3Client(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)

    def run(sink: Sink) -> None:
        requests = (GetRequest(task.bucket, key) for key in task.keys)
        for result in client.get_many(requests, window=task.window):
            sink(result.data)

    return Subject(run)


def _checkpoint(task: Task) -> tuple[S3Checkpoint, str]:
    checkpoint = S3Checkpoint(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)
    return checkpoint, f"s3://{task.bucket}/{task.keys[0]}"


def checkpoint_save(task: Task) -> Subject:
    """``S3Checkpoint.save``."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    checkpoint, uri = _checkpoint(task)
    return Subject(lambda _: checkpoint.save(state, uri), state=partial(memory_of, state))


def checkpoint_load(task: Task) -> Subject:
    """``S3Checkpoint.load``."""
    checkpoint, uri = _checkpoint(task)
    return Subject(lambda _: checkpoint.load(uri), parts=buffers)
