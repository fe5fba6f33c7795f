"""What only this project's datasets do in a ``DataLoader``: their own order, and progress that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchdata.stateful_dataloader import StatefulDataLoader

from s3torch.client import S3BucketKeyData, S3Client, S3ClientConfig
from s3torch.datasets import S3Index, S3IterableDataset, decode, list_index
from s3torch.datasets._order import EpochOrder
from s3torch.harness.bench.subjects.loading import dealt_keys, epoch, read_tensor
from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed

_CONFIG = S3ClientConfig(force_path_style=True)


def _dataset(
    task: Task, keys: list[str], *, shuffle: bool = False, transform: Callable[[Any], Any] = read_tensor
) -> S3IterableDataset:
    index = S3Index.from_items(S3BucketKeyData(task.bucket, key) for key in keys)
    return S3IterableDataset.from_index(
        index,
        region=task.region,
        endpoint=task.endpoint,
        s3client_config=_CONFIG,
        transform=transform,
        shuffle=shuffle,
    )


def shuffled_loader(task: Task) -> Subject:
    """One epoch in an order of its own, of keys that lie such that it delivers them as the task has them."""
    keys = dealt_keys(task)
    placed = [""] * len(keys)
    for item, key in zip(EpochOrder(len(keys), 0, 0).items(0, len(keys)), keys, strict=True):
        placed[item] = key
    return epoch(_dataset(task, placed, shuffle=True), task)


def tensor_loader(task: Task) -> Subject:
    """One epoch of samples that are received as tensors, which may be written to, where the others wrap `bytes`."""
    return epoch(_dataset(task, dealt_keys(task), transform=decode.Tensor()), task)


def stateful_loader(task: Task) -> Subject:
    """One epoch through torchdata's loader, which asks for the state after every batch."""
    return epoch(_dataset(task, dealt_keys(task)), task, StatefulDataLoader)


def listing(task: Task) -> Subject:
    """Every key under a prefix, into an index."""
    client = S3Client(task.region, endpoint=task.endpoint, s3client_config=_CONFIG)

    def run(_: Sink) -> S3Index:
        return list_index(client, f"s3://{task.bucket}/{task.keys[0]}", connections=task.window)

    return Subject(run, parts=lambda index: listed(item.key for item in index))
