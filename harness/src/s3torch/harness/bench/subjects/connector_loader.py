"""The connector's datasets in a ``DataLoader``: this project's, or the original's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from s3torch.harness.bench.subjects.loading import dealt_keys, epoch, first_batch, prefix_of, read_tensor, workers_of
from s3torch.harness.bench.subjects.task import Subject, Task
from s3torchconnector import S3ClientConfig, S3IterableDataset, S3MapDataset


def _settings(task: Task) -> dict[str, Any]:
    return {
        "region": task.region,
        "endpoint": task.endpoint,
        "s3client_config": S3ClientConfig(force_path_style=True),
        "transform": read_tensor,
    }


def _uris(task: Task, keys: Sequence[str]) -> list[str]:
    return [f"s3://{task.bucket}/{key}" for key in keys]


def map_loader(task: Task) -> Subject:
    """One epoch by index."""
    return epoch(S3MapDataset.from_objects(_uris(task, task.keys), **_settings(task)), task)


def iterable_loader(task: Task) -> Subject:
    """One epoch as a stream, shared out among the workers."""
    dataset = S3IterableDataset.from_objects(
        _uris(task, dealt_keys(task)), enable_sharding=workers_of(task) > 0, **_settings(task)
    )
    return epoch(dataset, task)


def map_first(task: Task) -> Subject:
    """The first batch by index."""
    return first_batch(
        partial(S3MapDataset.from_prefix, f"s3://{task.bucket}/{prefix_of(task)}", **_settings(task)), task
    )


def iterable_first(task: Task) -> Subject:
    """The first batch as a stream; every worker gets every object, so that the batch is the same for all."""
    return first_batch(
        partial(S3IterableDataset.from_prefix, f"s3://{task.bucket}/{prefix_of(task)}", **_settings(task)), task
    )
