"""LitData's dataset of raw objects, which is map-style."""

from __future__ import annotations

from typing import Any

import obstore.store
from litdata import StreamingRawDataset
from litdata.raw.indexer import BaseIndexer, FileMetadata

from s3torch.harness.bench.subjects.loading import epoch, to_tensor
from s3torch.harness.bench.subjects.task import Subject, Task


class _PlainStore(obstore.store.S3Store):  # type: ignore[misc]  # a peer, which is not installed here
    """Also speaks plain HTTP, which LitData has no option for."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        options["client_options"] = {**(options.get("client_options") or {}), "allow_http": True}
        return super().__new__(cls, *arguments, **options)

    def __init__(self, *_: Any, **__: Any) -> None:
        """There is nothing left to do."""


obstore.store.S3Store = _PlainStore


class _Index(BaseIndexer):  # type: ignore[misc]  # a peer, which is not installed here
    """Names the objects without a listing; the library's own would also be stored in the bucket."""

    def __init__(self, task: Task) -> None:
        self._files = [FileMetadata(f"s3://{task.bucket}/{key}", task.size) for key in task.keys]

    def discover_files(self, *_: Any, **__: Any) -> list[FileMetadata]:
        return self._files

    def build_or_load_index(self, *_: Any, **__: Any) -> list[FileMetadata]:
        return self._files


def map_loader(task: Task) -> Subject:
    """By index: the objects of a batch at once, and the next ones ahead."""
    dataset = StreamingRawDataset(
        f"s3://{task.bucket}/{task.keys[0].rpartition('/')[0]}",
        cache_dir=task.options["scratch"],
        indexer=_Index(task),
        storage_options={"endpoint_url": task.endpoint, "region_name": task.region},
        transform=to_tensor,
    )
    return epoch(dataset, task)
