"""An epoch of small objects through a `DataLoader`, by index and as a stream, in batches of 32 tensors.

The time is that of a whole epoch, the start and the end of its workers included; the processor time and the memory are
those of all its processes.
"""

from __future__ import annotations

from collections.abc import Iterator

from s3torch.harness.bench.scenario import (
    Entry,
    Figure,
    Requirement,
    Scenario,
    Server,
    absent,
    also,
    floor,
    original,
    ours,
    peer,
)
from s3torch.harness.bench.scenarios.small import SMALL, SMALL_COUNT

_WORKERS = (0, 2, 4)
# Epochs with workers are longer, or the start of processes, the same for all, would be most of their time.
_LONG_COUNT = 10_000
# Those that fetch one by one would take a minute for 2,000 objects that are 30 ms away.
_FEW = 200
_SHARDS = (
    absent("WebDataset", "it reads tar shards, not objects of their own"),
    absent("MosaicML Streaming", "it reads shards of its own format, not objects as they are"),
    absent("torchdata", "since 0.10 it has no readers of stores; its nodes run whatever the user writes"),
)


def _map_entries(workers: int, window: int, few: int | None) -> Iterator[Entry]:
    yield floor("sockets, a batch at once", "floor_loader:map_loader", workers=workers)
    yield ours("s3torch, S3MapDataset", "connector_loader:map_loader", workers=workers)
    yield original("s3torchconnector, S3MapDataset", "connector_loader:map_loader", objects=few, workers=workers)
    yield peer("LitData, StreamingRawDataset", "litdata", "litdata_peer:map_loader", workers=workers)
    yield from _fetching("map_loader", workers, window, few)
    yield from _SHARDS


def _iterable_entries(workers: int, window: int, few: int | None) -> Iterator[Entry]:
    yield floor(f"sockets, {window} in flight", "floor_loader:iterable_loader", workers=workers)
    yield ours("s3torch, S3IterableDataset", "connector_loader:iterable_loader", workers=workers)
    yield ours("s3torch, S3IterableDataset, shuffled", "ours_loader:shuffled_loader", workers=workers)
    yield also("s3torch, decode.Tensor", "ours_loader:tensor_loader", workers=workers)
    yield also("s3torch, StatefulDataLoader", "ours_loader:stateful_loader", workers=workers)
    yield original(
        "s3torchconnector, S3IterableDataset", "connector_loader:iterable_loader", objects=few, workers=workers
    )
    yield from _fetching("iterable_loader", workers, window, few)
    yield absent("LitData, StreamingRawDataset", "it is map-style only")
    yield from _SHARDS


def _fetching(function: str, workers: int, window: int, few: int | None) -> Iterator[Entry]:
    """Yield the libraries that have no dataset of their own, each in one that its users would write."""
    yield peer("boto3, one by one", "boto3", f"boto3_loader:{function}", objects=few, workers=workers)
    threads = f"boto3, {window} threads"
    yield peer(threads, "boto3", f"boto3_loader:{function}", workers=workers, threads=window)
    yield peer("obstore, asyncio", "obstore", f"obstore_loader:{function}", workers=workers)
    yield peer("s3fs, cat", "s3fs", f"s3fs_loader:{function}", workers=workers)


def _requirements(style: str, workers: int, *, is_far: bool) -> tuple[Requirement, ...]:
    if not is_far:
        rate = Requirement(Figure.RATE, 2.0, "original")
        # The limit is the main process's: what workers spend is counted with it.
        return (rate,) if workers else (rate, Requirement(Figure.CPU, 0.5, "original"))
    if style == "map":
        return (Requirement(Figure.RATE, 20.0, "original"),)
    return (Requirement(Figure.RATE, 60.0, "original"), Requirement(Figure.RATE, 0.8, "floor"))


def _scenario(style: str, workers: int, *, is_far: bool) -> Scenario:
    window = 64 if is_far else 16
    count = _LONG_COUNT if workers and not is_far else SMALL_COUNT
    make = _map_entries if style == "map" else _iterable_entries
    return Scenario(
        f"loader-{style}-{workers}{'-latency' if is_far else ''}",
        f"DataLoader, {style}-style, {workers} workers, {count:,} objects of 110 KB"
        + (", 30 ms first byte, 90 MB/s per connection" if is_far else ""),
        Server.LATENCY if is_far else Server.PLAIN,
        tuple(make(workers, window, _FEW if is_far else None)),
        _requirements(style, workers, is_far=is_far),
        size=SMALL,
        count=count,
        window=window,
        # Requests do not depend on where the server is or on who asks.
        is_counted=not is_far and not workers,
    )


SCENARIOS: tuple[Scenario, ...] = tuple(
    _scenario(style, workers, is_far=is_far)
    for is_far in (False, True)
    for style in ("map", "iterable")
    for workers in _WORKERS
)
