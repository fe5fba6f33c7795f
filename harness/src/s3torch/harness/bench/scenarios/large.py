"""One large object: by `read` and `readinto`, plainly, over TLS, and from far away."""

from __future__ import annotations

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
    if into:
        entries += [
            peer("s3fs, open().readinto", "s3fs", "s3fs_peer:readinto"),
            absent("obstore", "it fetches into memory of its own only"),
        ]
    else:
        entries += [
            peer("boto3, download_fileobj", "boto3", "boto3_peer:download"),
            peer("s3transfer, download into a file object", "boto3", "s3transfer_peer:download"),
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
    Scenario(
        "get-read", "1 GiB, read(), plain HTTP", Server.PLAIN, _large_get(into=False), _LARGE_PLAIN, is_counted=True
    ),
    Scenario(
        "get-readinto",
        "1 GiB, readinto, plain HTTP",
        Server.PLAIN,
        _large_get(into=True),
        _LARGE_PLAIN,
        is_counted=True,
    ),
    Scenario("tls-read", "1 GiB, read(), TLS", Server.TLS, _tls_get(into=False), _LARGE_TLS),
    Scenario("tls-readinto", "1 GiB, readinto, TLS", Server.TLS, _tls_get(into=True), _LARGE_TLS),
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
            peer("boto3, download_fileobj", "boto3", "boto3_peer:download"),
            peer("obstore, get_ranges", "obstore", "obstore_peer:large_ranges"),
            peer("s3fs, cat_file", "s3fs", "s3fs_peer:large_get"),
        ),
        (Requirement(Figure.RATE, 1.2, "original"),),
    ),
)
