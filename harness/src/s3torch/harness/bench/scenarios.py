"""What is measured, against what, and what must be reached. Pure values; ``runner`` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MIB = 1024 * 1024
GIB = 1024 * MIB
LARGE = GIB
SMALL, SMALL_COUNT = 110_000, 2000
TENSORS = 64


class Server(str, Enum):
    """Which endpoint a scenario runs against."""

    PLAIN = "plain"
    """nginx, plain HTTP."""
    LATENCY = "latency"
    """nginx, 30 ms to the first byte and 90 MB/s per connection."""
    TLS = "tls"
    """nginx, HTTPS."""
    DISCARD = "discard"
    """nginx, uploads dropped."""
    MOTO = "moto"
    """moto, which is slow but needs nothing installed and counts requests."""
    NONE = "none"
    """No server."""


class Role(str, Enum):
    """What a subject is to the others."""

    FLOOR = "floor"
    OURS = "ours"
    ORIGINAL = "original"
    PEER = "peer"


class Content(str, Enum):
    """What the objects hold."""

    BYTES = "bytes"
    """Reproducible bytes."""
    STATE = "state"
    """A file of ``torch.save``."""
    UPLOAD = "upload"
    """Nothing: the subject writes a file of ``torch.save``."""
    UPLOAD_BYTES = "upload bytes"
    """Nothing: the subject writes zeros."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject's part in a scenario."""

    name: str
    """As the table shows it."""
    role: Role
    """What it is to the others."""
    environment: str
    """Where it runs: ``workspace``, or a peer's name."""
    subject: str
    """``module:function`` within the subjects."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What only this subject is told."""
    objects: int | None = None
    """Fewer objects than the scenario's, for a subject that would take minutes; rates are compared."""
    is_judged: bool = True
    """Whether the scenario's requirements hold for it, if it is one of ours."""


class Figure(str, Enum):
    """What a requirement looks at."""

    RATE = "rate"
    """GB/s, or objects/s: more is better."""
    CPU = "cpu"
    """Processor seconds per byte or object: less is better."""
    MEMORY = "memory"
    """Peak resident memory above that before the first run, in multiples of the data: less is better."""
    EXTRA = "extra memory"
    """The same in bytes."""
    TIME = "time"
    """Seconds: less is better."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition that each of our subjects must meet."""

    figure: Figure
    """What is compared."""
    limit: float
    """A factor where ``against`` says of what, otherwise a figure in base units."""
    against: str | None = None
    """``floor`` (the best of them), ``original``, or an entry's name; None for a limit that stands alone."""

    @property
    def is_minimum(self) -> bool:
        """Whether more is better."""
        return self.figure is Figure.RATE


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of what must be shown."""

    name: str
    """For the command line."""
    title: str
    """For the table."""
    server: Server
    """The endpoint."""
    entries: tuple[Entry, ...]
    """The subjects, in the order in which they take turns."""
    requirements: tuple[Requirement, ...] = ()
    """What ours must reach."""
    size: int = LARGE
    """Bytes of each object."""
    count: int = 1
    """Objects; above one, the rate is in objects/s."""
    window: int = 16
    """Requests in flight at most."""
    spend: float = 0.0
    """Seconds of pure Python that the consumer spends on each object."""
    content: Content = Content.BYTES
    """What the objects hold."""


def _ours(name: str, subject: str, **options: Any) -> Entry:
    return Entry(name, Role.OURS, "workspace", subject, options)


def _also(name: str, subject: str, **options: Any) -> Entry:
    return Entry(name, Role.OURS, "workspace", subject, options, is_judged=False)


def _floor(name: str, subject: str, **options: Any) -> Entry:
    return Entry(name, Role.FLOOR, "workspace", subject, options)


def _original(name: str, subject: str, *, objects: int | None = None, **options: Any) -> Entry:
    return Entry(name, Role.ORIGINAL, "original", subject, options, objects)


def _peer(name: str, environment: str, subject: str, *, objects: int | None = None, **options: Any) -> Entry:
    return Entry(name, Role.PEER, environment, subject, options, objects)


def _large_get(*, into: bool) -> tuple[Entry, ...]:
    call = "readinto" if into else "read()"
    entries = [
        _floor("socket, 1 blocking connection", "floor_http:large_get_blocking", into=into),
        _floor("sockets, loop, 8 connections", "floor_http:large_get", into=into),
        _ours(f"s3torch, get_object().{call}", "connector:large_get", into=into, strict=True),
        _also(f"s3torch, range_based, {call}", "connector:large_get", into=into, strict=True, reader="range_based"),
        _original(f"s3torchconnector, get_object().{call}", "connector:large_get", into=into),
        _peer(
            f"s3torchconnector, range_based, {call}", "original", "connector:large_get", into=into, reader="range_based"
        ),
        _peer(f"boto3, Body.{call}", "boto3", "boto3_peer:large_get", into=into),
    ]
    if not into:
        entries += [
            _peer("boto3, download_fileobj", "boto3", "boto3_peer:download"),
            _peer("obstore, get", "obstore", "obstore_peer:large_get"),
            _peer("obstore, get_ranges", "obstore", "obstore_peer:large_ranges"),
            _peer("s3fs, cat_file", "s3fs", "s3fs_peer:large_get"),
        ]
    return tuple(entries)


def _tls_get(*, into: bool) -> tuple[Entry, ...]:
    call = "readinto" if into else "read()"
    entries = [
        _floor("SSLSocket, 3 threads", "floor_tls:large_get_blocking", into=into),
        _floor("MemoryBIO, 2 threads", "floor_tls:large_get_memory", into=into),
        _ours(f"s3torch, get_object().{call}", "connector:large_get", into=into, strict=True),
        _original(f"s3torchconnector, get_object().{call}", "connector:large_get", into=into),
        _peer(
            f"s3torchconnector, range_based, {call}", "original", "connector:large_get", into=into, reader="range_based"
        ),
        _peer(f"boto3, Body.{call}", "boto3", "boto3_peer:large_get", into=into),
    ]
    if not into:
        entries += [
            _peer("obstore, get", "obstore", "obstore_peer:large_get"),
            _peer("s3fs, cat_file", "s3fs", "s3fs_peer:large_get"),
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
        f"torch.save of {TENSORS} tensors, 1 GiB",
        Server.DISCARD,
        (
            _floor("torch.save, sendall", "floor_torch:save"),
            _ours("s3torch, torch.save(S3Writer)", "connector:torch_save"),
            _ours("s3torch, S3Checkpoint.save", "ours:checkpoint_save"),
            _original("s3torchconnector, torch.save(S3Writer)", "connector:torch_save"),
            _peer("boto3, BytesIO, upload_fileobj", "workspace", "torch_boto3:save"),
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
        f"torch.load of {TENSORS} tensors, 1 GiB",
        Server.PLAIN,
        (
            _floor("sockets into tensors, loop, 8 connections", "floor_torch:load"),
            _ours("s3torch, torch.load(S3Reader)", "connector:torch_load"),
            _ours("s3torch, S3Checkpoint.load", "ours:checkpoint_load"),
            _original("s3torchconnector, torch.load(S3Reader)", "connector:torch_load"),
            _peer("s3torchconnector, range_based", "original", "connector:torch_load", reader="range_based"),
            _peer("boto3, BytesIO", "workspace", "torch_boto3:load"),
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
            _floor("socket", "floor_http:serial_socket"),
            _floor("http.client", "floor_http:serial_http_client"),
            _ours("s3torch, get_object().read()", "connector:serial"),
            _original("s3torchconnector, get_object().read()", "connector:serial"),
            _peer("obstore, get", "obstore", "obstore_peer:serial"),
            _peer("boto3, get_object", "boto3", "boto3_peer:serial"),
            _peer("s3fs, cat_file", "s3fs", "s3fs_peer:serial", objects=500),
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
            _floor("sockets, loop, 16 in flight", "floor_http:many"),
            _ours("s3torch, get_many", "ours:many"),
            _also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            _also("s3torch, S3MapDataset", "connector:map_dataset"),
            _original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            _peer("s3torchconnector, S3MapDataset", "original", "connector:map_dataset"),
            _peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            _peer("obstore, asyncio", "obstore", "obstore_peer:many"),
            _peer("s3fs, cat", "s3fs", "s3fs_peer:many"),
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
            _floor("sockets, loop, 128 in flight", "floor_http:many"),
            _ours("s3torch, get_many", "ours:many"),
            _also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            _original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset", objects=100),
            _peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            _peer("obstore, asyncio", "obstore", "obstore_peer:many"),
            _peer("s3fs, cat", "s3fs", "s3fs_peer:many", objects=500),
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
            _floor("sockets, loop, 16 in flight", "floor_http:many"),
            _ours("s3torch, get_many", "ours:many"),
            _original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            _peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            _peer("obstore, asyncio", "obstore", "obstore_peer:many"),
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
            _floor("sockets, loop, 128 in flight", "floor_http:many"),
            _ours("s3torch, get_many", "ours:many"),
            _original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset", objects=100),
            _peer("s3torchconnector, 64 threads", "original", "connector:threads"),
            _peer("obstore, asyncio", "obstore", "obstore_peer:many"),
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
            _floor("sockets, loop, 16 connections", "floor_http:large_get", connections=16),
            _floor("sockets, loop, 32 connections", "floor_http:large_get", connections=32),
            _ours("s3torch, get_object().read()", "connector:large_get"),
            _original("s3torchconnector, get_object().read()", "connector:large_get"),
            _peer("s3torchconnector, range_based", "original", "connector:large_get", reader="range_based"),
            _peer("obstore, get_ranges", "obstore", "obstore_peer:large_ranges"),
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
            _ours("s3torch, sequential, read()", "connector:large_get", reader="sequential"),
            _ours("s3torch, sequential, readinto", "connector:large_get", reader="sequential", into=True, strict=True),
            _ours("s3torch, range_based, read()", "connector:large_get", reader="range_based"),
            _ours(
                "s3torch, range_based, readinto", "connector:large_get", reader="range_based", into=True, strict=True
            ),
            _ours("s3torch, dcp_optimized, items of 4 MiB", "ours:items"),
            _original("s3torchconnector, sequential, read()", "connector:large_get", reader="sequential"),
            _peer("s3torchconnector, range_based, read()", "original", "connector:large_get", reader="range_based"),
            _peer("boto3, Body.read()", "boto3", "boto3_peer:large_get"),
        ),
        size=_MOTO_SIZE,
    ),
    Scenario(
        "moto-writer",
        "64 MiB through the writer in writes of 1 MiB, on moto",
        Server.MOTO,
        (_ours("s3torch, S3Writer", "connector:write"), _original("s3torchconnector, S3Writer", "connector:write")),
        size=_MOTO_SIZE,
        content=Content.UPLOAD_BYTES,
    ),
    Scenario(
        "moto-datasets",
        "200 objects of 110 KB through each dataset, on moto",
        Server.MOTO,
        (
            _ours("s3torch, S3MapDataset", "connector:map_dataset"),
            _also("s3torch, S3IterableDataset", "connector:iterable_dataset"),
            _original("s3torchconnector, S3IterableDataset", "connector:iterable_dataset"),
            _peer("s3torchconnector, S3MapDataset", "original", "connector:map_dataset"),
        ),
        size=SMALL,
        count=_MOTO_COUNT,
    ),
)

ALL_SCENARIOS = SCENARIOS + MOTO_SCENARIOS
