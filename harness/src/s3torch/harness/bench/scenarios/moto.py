"""What needs nothing installed: each reader, the writer and the datasets on moto, with their requests counted."""

from __future__ import annotations

from s3torch.harness.bench.scenario import (
    MIB,
    Content,
    Scenario,
    Server,
    also,
    floor,
    original,
    ours,
    peer,
)
from s3torch.harness.bench.scenarios.small import SMALL

_MOTO_SIZE = 64 * MIB
_MOTO_COUNT = 200

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "moto-readers",
        "64 MiB through each reader type, on moto",
        Server.MOTO,
        (
            floor("sockets, loop, 8 connections", "floor_http:large_get"),
            ours("s3torch, sequential, read()", "connector:large_get", reader="sequential"),
            ours("s3torch, sequential, readinto", "connector:large_get", reader="sequential", into=True, strict=True),
            ours("s3torch, range_based, read()", "connector:large_get", reader="range_based"),
            ours("s3torch, range_based, readinto", "connector:large_get", reader="range_based", into=True, strict=True),
            ours("s3torch, dcp_optimized, items of 4 MiB", "ours:items"),
            original("s3torchconnector, sequential, read()", "connector:large_get", reader="sequential"),
            peer("s3torchconnector, range_based, read()", "original", "connector:large_get", reader="range_based"),
            peer("boto3, Body.read()", "boto3", "boto3_peer:large_get"),
        ),
        size=_MOTO_SIZE,
        is_counted=True,
    ),
    Scenario(
        "moto-writer",
        "64 MiB through the writer in writes of 1 MiB, on moto",
        Server.MOTO,
        (
            floor("socket, one PUT", "floor_http:write"),
            ours("s3torch, S3Writer", "connector:write"),
            original("s3torchconnector, S3Writer", "connector:write"),
            peer("s3transfer, upload of a file object", "boto3", "s3transfer_peer:write"),
            peer("obstore, put", "obstore", "obstore_peer:write"),
            peer("s3fs, open", "s3fs", "s3fs_peer:write"),
        ),
        size=_MOTO_SIZE,
        is_counted=True,
        content=Content.UPLOAD_BYTES,
    ),
    Scenario(
        "moto-datasets",
        "200 objects of 110 KB through each dataset, on moto",
        Server.MOTO,
        (
            floor("sockets, loop, 16 in flight", "floor_http:many"),
            ours("s3torch, S3MapDataset", "connector:map_dataset"),
            also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            peer("s3torchconnector, S3MapDataset", "original", "connector:map_dataset"),
        ),
        size=SMALL,
        count=_MOTO_COUNT,
        is_counted=True,
    ),
)
