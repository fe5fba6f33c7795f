"""What is measured of objects and single files; ``dcp_scenarios`` has the distributed checkpoints."""

from __future__ import annotations

from s3torch.harness.bench.dcp_scenarios import DCP_SCENARIOS
from s3torch.harness.bench.scenario import (
    MIB,
    Content,
    Entry,
    Figure,
    Requirement,
    Role,
    Scenario,
    Server,
    also,
    floor,
    original,
    ours,
    peer,
)

SMALL, SMALL_COUNT = 110_000, 2000


def _large_get(*, into: bool) -> tuple[Entry, ...]:
    call = "readinto" if into else "read()"
    entries = [
        floor("socket, 1 blocking connection", "floor_http:large_get_blocking", into=into),
        floor("sockets, loop, 8 connections", "floor_http:large_get", into=into),
        ours(f"s3torch, get_object().{call}", "connector:large_get", into=into, strict=True),
        also(f"s3torch, range_based, {call}", "connector:large_get", into=into, strict=True, reader="range_based"),
        original(f"s3torchconnector, get_object().{call}", "connector:large_get", into=into),
        peer(
            f"s3torchconnector, range_based, {call}", "original", "connector:large_get", into=into, reader="range_based"
        ),
        peer(f"boto3, Body.{call}", "boto3", "boto3_peer:large_get", into=into),
    ]
    if not into:
        entries += [
            peer("boto3, download_fileobj", "boto3", "boto3_peer:download"),
            peer("obstore, get", "obstore", "obstore_peer:large_get"),
            peer("obstore, get_ranges", "obstore", "obstore_peer:large_ranges"),
            peer("s3fs, cat_file", "s3fs", "s3fs_peer:large_get"),
        ]
    return tuple(entries)


def _tls_get(*, into: bool) -> tuple[Entry, ...]:
    call = "readinto" if into else "read()"
    entries = [
        floor("SSLSocket, 3 threads", "floor_tls:large_get_blocking", into=into),
        floor("MemoryBIO, 2 threads", "floor_tls:large_get_memory", into=into),
        ours(f"s3torch, get_object().{call}", "connector:large_get", into=into, strict=True),
        original(f"s3torchconnector, get_object().{call}", "connector:large_get", into=into),
        peer(
            f"s3torchconnector, range_based, {call}", "original", "connector:large_get", into=into, reader="range_based"
        ),
        peer(f"boto3, Body.{call}", "boto3", "boto3_peer:large_get", into=into),
    ]
    if not into:
        entries += [
            peer("obstore, get", "obstore", "obstore_peer:large_get"),
            peer("s3fs, cat_file", "s3fs", "s3fs_peer:large_get"),
        ]
    return tuple(entries)


_LARGE_PLAIN = (
    Requirement(Figure.RATE, 0.85, "floor"),
    Requirement(Figure.RATE, 2.5, "original"),
    Requirement(Figure.MEMORY, 1.1),
)
_LARGE_TLS = (Requirement(Figure.RATE, 0.85, "floor"), Requirement(Figure.CPU, 0.7, "original"))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("get-read", "1 GiB, read(), plain HTTP", Server.PLAIN, _large_get(into=False), _LARGE_PLAIN),
    Scenario("get-readinto", "1 GiB, readinto, plain HTTP", Server.PLAIN, _large_get(into=True), _LARGE_PLAIN),
    Scenario("tls-read", "1 GiB, read(), TLS", Server.TLS, _tls_get(into=False), _LARGE_TLS),
    Scenario("tls-readinto", "1 GiB, readinto, TLS", Server.TLS, _tls_get(into=True), _LARGE_TLS),
    Scenario(
        "torch-save",
        "torch.save of 64 tensors, 1 GiB",
        Server.DISCARD,
        (
            floor("torch.save, sendall", "floor_torch:save"),
            ours("s3torch, torch.save(S3Writer)", "connector:torch_save"),
            ours("s3torch, S3Checkpoint.save", "ours:checkpoint_save"),
            original("s3torchconnector, torch.save(S3Writer)", "connector:torch_save"),
            peer("boto3, BytesIO, upload_fileobj", "workspace", "torch_boto3:save"),
        ),
        (
            Requirement(Figure.RATE, 0.85, "floor"),
            Requirement(Figure.RATE, 2.5, "original"),
            Requirement(Figure.EXTRA, 64 * MIB),
        ),
        content=Content.UPLOAD,
    ),
    Scenario(
        "torch-load",
        "torch.load of 64 tensors, 1 GiB",
        Server.PLAIN,
        (
            floor("sockets into tensors, loop, 8 connections", "floor_torch:load"),
            ours("s3torch, torch.load(S3Reader)", "connector:torch_load"),
            ours("s3torch, S3Checkpoint.load", "ours:checkpoint_load"),
            original("s3torchconnector, torch.load(S3Reader)", "connector:torch_load"),
            peer("s3torchconnector, range_based", "original", "connector:torch_load", reader="range_based"),
            peer("boto3, BytesIO", "workspace", "torch_boto3:load"),
        ),
        (
            Requirement(Figure.RATE, 0.75, "floor"),
            Requirement(Figure.RATE, 3.0, "original"),
            Requirement(Figure.MEMORY, 1.1),
        ),
        content=Content.STATE,
    ),
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
            ours("s3torch, get_many", "ours:many"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
        ),
        (Requirement(Figure.RATE, 850.0),),
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
            ours("s3torch, get_many", "ours:many"),
            original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset", objects=100),
            peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            peer("obstore, asyncio", "obstore", "obstore_peer:many"),
        ),
        (Requirement(Figure.RATE, 850.0),),
        size=SMALL,
        count=SMALL_COUNT,
        window=128,
        spend=0.001,
    ),
    Scenario(
        "get-latency",
        "1 GiB, read(), 30 ms first byte, 90 MB/s per connection",
        Server.LATENCY,
        (
            floor("sockets, loop, 16 connections", "floor_http:large_get", connections=16),
            floor("sockets, loop, 32 connections", "floor_http:large_get", connections=32),
            ours("s3torch, get_object().read()", "connector:large_get"),
            original("s3torchconnector, get_object().read()", "connector:large_get"),
            peer("s3torchconnector, range_based", "original", "connector:large_get", reader="range_based"),
            peer("obstore, get_ranges", "obstore", "obstore_peer:large_ranges"),
        ),
        (Requirement(Figure.RATE, 1.2, "original"),),
    ),
    Scenario(
        "import",
        "import, beyond boto3's own",
        Server.NONE,
        (
            Entry(
                "s3torch.client",
                Role.OURS,
                "workspace",
                "importing:module",
                {"module": "s3torch.client", "before": ["boto3"]},
            ),
            Entry("boto3", Role.PEER, "workspace", "importing:module", {"module": "boto3"}),
            Entry(
                "s3torchconnector, beyond torch's own",
                Role.ORIGINAL,
                "original",
                "importing:module",
                {"module": "s3torchconnector", "before": ["torch"]},
            ),
        ),
        (Requirement(Figure.TIME, 0.150),),
        is_timed=True,
    ),
)

_MOTO_SIZE = 64 * MIB
_MOTO_COUNT = 200

MOTO_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "moto-readers",
        "64 MiB through each reader type, on moto",
        Server.MOTO,
        (
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
        (ours("s3torch, S3Writer", "connector:write"), original("s3torchconnector, S3Writer", "connector:write")),
        size=_MOTO_SIZE,
        is_counted=True,
        content=Content.UPLOAD_BYTES,
    ),
    Scenario(
        "moto-datasets",
        "200 objects of 110 KB through each dataset, on moto",
        Server.MOTO,
        (
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

ALL_SCENARIOS = SCENARIOS + DCP_SCENARIOS + MOTO_SCENARIOS
