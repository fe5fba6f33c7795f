"""Many small objects, one by one and many at once."""

from __future__ import annotations

from s3torch.harness.bench.scenario import (
    Figure,
    Requirement,
    Scenario,
    Server,
    also,
    floor,
    original,
    ours,
    peer,
)

SMALL, SMALL_COUNT = 110_000, 2000
"""Bytes of each, as an image has; and how many."""

_WORK_ALONE = "the work alone, on objects in memory"
_BESIDE_WORK = (Requirement(Figure.RATE, 850.0), Requirement(Figure.RATE, 0.85, _WORK_ALONE))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "serial",
        "2,000 objects of 110 KB, one by one, warm",
        Server.PLAIN,
        (
            floor("socket", "floor_http:serial_socket"),
            floor("http.client", "floor_http:serial_http_client"),
            ours("s3torch, get_object().read()", "connector:serial"),
            original("s3torchconnector, get_object().read()", "connector:serial"),
            peer("obstore, get", "obstore", "obstore_peer:serial"),
            peer("boto3, get_object", "boto3", "boto3_peer:serial"),
            peer("s3fs, cat_file", "s3fs", "s3fs_peer:serial", objects=500),
        ),
        (Requirement(Figure.CPU, 100e-6), Requirement(Figure.CPU, 0.45, "original")),
        size=SMALL,
        count=SMALL_COUNT,
        is_counted=True,
    ),
    Scenario(
        "many",
        "2,000 objects of 110 KB, many at once",
        Server.PLAIN,
        (
            floor("sockets, loop, 16 in flight", "floor_http:many"),
            ours("s3torch, get_many", "ours:many"),
            also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            also("s3torch, S3MapDataset", "connector:map_dataset"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            peer("s3torchconnector, S3MapDataset", "original", "connector:map_dataset"),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
            peer("s3fs, cat", "s3fs", "s3fs_peer:many"),
        ),
        (Requirement(Figure.RATE, 0.6, "floor"), Requirement(Figure.RATE, 2.0, "obstore, asyncio")),
        size=SMALL,
        count=SMALL_COUNT,
        is_counted=True,
    ),
    Scenario(
        "many-latency",
        "the same, 30 ms first byte, 90 MB/s per connection, window 128",
        Server.LATENCY,
        (
            floor("sockets, loop, 128 in flight", "floor_http:many"),
            ours("s3torch, get_many", "ours:many"),
            also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset", objects=100),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
            peer("s3fs, cat", "s3fs", "s3fs_peer:many", objects=500),
        ),
        (Requirement(Figure.RATE, 0.85, "floor"), Requirement(Figure.RATE, 60.0, "original")),
        size=SMALL,
        count=SMALL_COUNT,
        window=128,
    ),
    Scenario(
        "many-consumer",
        "2,000 objects of 110 KB, many at once, 1 ms of pure Python on each",
        Server.PLAIN,
        (
            floor("sockets, loop, 16 in flight", "floor_http:many"),
            peer(_WORK_ALONE, "workspace", "floor_http:held"),
            ours("s3torch, get_many", "ours:many"),
            ours("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
        ),
        _BESIDE_WORK,
        size=SMALL,
        count=SMALL_COUNT,
        spend=0.001,
    ),
    Scenario(
        "many-latency-consumer",
        "the same, 30 ms first byte, 90 MB/s per connection, window 128",
        Server.LATENCY,
        (
            floor("sockets, loop, 128 in flight", "floor_http:many"),
            peer(_WORK_ALONE, "workspace", "floor_http:held"),
            ours("s3torch, get_many", "ours:many"),
            ours("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset", objects=100),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
        ),
        _BESIDE_WORK,
        size=SMALL,
        count=SMALL_COUNT,
        window=128,
        spend=0.001,
    ),
)
