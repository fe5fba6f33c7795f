"""How long until a new dataset of a prefix has given its first batch: its listing, its workers, 32 objects."""

from __future__ import annotations

from dataclasses import replace

from s3torch.harness.bench.scenario import Entry, Scenario, Server, absent, also, floor, original, ours, peer
from s3torch.harness.bench.scenarios.small import SMALL, SMALL_COUNT

_BATCH = 32
_CANNOT = (
    absent("LitData, StreamingRawDataset", "it stores an index of its own in the bucket, among the objects to be read"),
    absent("WebDataset", "it reads tar shards, not the objects of a prefix"),
    absent("MosaicML Streaming", "it reads shards of its own format, not the objects of a prefix"),
)
# Measured: no answer within 300 s.
_OBSTORE_FORKED = absent("obstore, asyncio", "a forked worker waits for ever once its parent has listed with it")


def _entries(workers: int) -> tuple[Entry, ...]:
    entries = (
        floor("sockets, IterableDataset, 1 page", "floor_loader:iterable_first", workers=workers),
        ours("s3torch, S3IterableDataset", "connector_loader:iterable_first", workers=workers),
        also("s3torch, S3MapDataset", "connector_loader:map_first", workers=workers),
        original("s3torchconnector, S3IterableDataset", "connector_loader:iterable_first", workers=workers),
        peer("s3torchconnector, S3MapDataset", "original", "connector_loader:map_first", workers=workers),
        peer("boto3, one by one", "boto3", "boto3_loader:map_first", workers=workers),
        _OBSTORE_FORKED if workers else peer("obstore, asyncio", "obstore", "obstore_loader:map_first", workers=0),
        peer("s3fs, cat", "s3fs", "s3fs_loader:map_first", workers=workers),
    )
    return tuple(replace(entry, objects=_BATCH) for entry in entries) + _CANNOT


SCENARIOS: tuple[Scenario, ...] = tuple(
    Scenario(
        f"first-batch-{workers}",
        f"first batch of 32 of 2,000 objects of 110 KB under a prefix, {workers} workers, 30 ms first byte",
        Server.LATENCY,
        _entries(workers),
        size=SMALL,
        count=SMALL_COUNT,
        is_timed=True,
        is_counted=True,
    )
    for workers in (0, 2)
)
