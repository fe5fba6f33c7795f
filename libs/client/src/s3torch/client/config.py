"""How a client behaves: one frozen value, which is also what a client pickles as."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from s3torch.client.values import PutOptions

if TYPE_CHECKING:
    from s3torch.client.protocols import Engine, EngineContext

__all__ = ["CacheConfig", "ChecksumAlgorithm", "S3ClientConfig"]

ChecksumAlgorithm = Literal["auto", "crc64nvme", "crc32c", "crc32", "none"]

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
# What one connection to S3 carries, from Amazon's performance guidelines ("85-90 MB/s per request"), less a margin.
_BYTES_PER_CONNECTION = 75e6


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """A local cache of what is read, shared by all processes that name the same directory.

    Args:
        directory: Where, on a local disk; made if it is not there.
        max_bytes: Bytes of disk that it may take.
        min_free_bytes: Bytes of the file system that it leaves free, whatever ``max_bytes`` allows.

    Raises:
        ValueError: A bound is out of its range, or the directory is empty.
        TypeError: An option has the wrong type.
    """

    directory: str | os.PathLike[str]
    max_bytes: int = 100 * _GIB
    min_free_bytes: int = field(default=2 * _GIB, kw_only=True)

    def __post_init__(self) -> None:
        """Check every option."""
        if not isinstance(self.directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a path, got {type(self.directory).__name__}")
        directory = os.path.abspath(os.fsdecode(self.directory)) if os.fspath(self.directory) else ""  # noqa: PTH100  # a string
        if not directory:
            raise ValueError("directory must not be empty: name one on a local disk")
        object.__setattr__(self, "directory", directory)
        _check_int("max_bytes", self.max_bytes, _MIB)
        _check_int("min_free_bytes", self.min_free_bytes, 0)


@dataclass(frozen=True)
class S3ClientConfig:
    """Options of a client. The defaults suit one host reading from S3 over a fast network.

    Args:
        throughput_target_gbps: What one large transfer aims for, in gigabits a second; sets how many connections it
            opens.
        part_size: Bytes in one part of a large transfer, 5 MiB to 5 GiB.
        unsigned: Send no credentials: public buckets.
        force_path_style: ``https://host/bucket/key`` rather than ``https://bucket.host/key``.
        max_attempts: How often one request is tried in all. Left at its default, ``AWS_MAX_ATTEMPTS`` and the
            profile's ``max_attempts`` replace it.
        profile: Profile of the shared AWS configuration; None takes the environment's.
        requester_pays: Accept charges for a requester-pays bucket.
        engine: ``"direct"`` (sockets, the default), ``"boto3"`` (every request through the SDK), ``"memory"``, or a
            function that makes an engine.
        connect_timeout: Seconds until a connection must stand, TLS included.
        read_timeout: Seconds that a connection may stay without moving a byte.
        operation_timeout: Seconds that one request, or one part of a large transfer, may take with all its retries,
            beside a second for each 256 KiB.
        max_connections: Connections of one large transfer; None derives them from ``throughput_target_gbps``.
        window: Requests that `S3Client.get_many` and datasets keep in flight at most; as many again may wait to be
            delivered in order. None finds by measuring how many are worth it, from 64 up to 512.
        window_bytes: Bytes that these keep in flight or undelivered.
        read_ahead: Parts that a stream fetches ahead of a reader that reads in small steps.
        upload_buffers: Parts of an upload held in memory at once, beside what is sent from the caller's own memory.
        checksum: Checksum sent with uploads; ``"auto"`` takes the fastest there is: with ``awscrt`` installed
            CRC64NVME for Amazon's store and CRC32C for others, else CRC32.
        verify_checksums: Ask for the checksum of what is read and compare it where the store returns one.
        ca_bundle: File of certificates to trust; None takes ``AWS_CA_BUNDLE`` or the system's.
        huge_pages: Ask the system for huge pages for large destinations, where it has them.
        put_options: Storage class, encryption, metadata and tags of what is uploaded.
        cache: A directory that keeps what is read, and answers when it is read again; None for none.

    Raises:
        ValueError: An option is out of its range, or two exclude each other.
        TypeError: An option has the wrong type.
    """

    throughput_target_gbps: float = 10.0
    part_size: int = 8 * _MIB
    unsigned: bool = False
    force_path_style: bool = False
    max_attempts: int = 10
    profile: str | None = None
    requester_pays: bool = False
    engine: str | Callable[[EngineContext], Engine] = field(default="direct", kw_only=True)
    connect_timeout: float = field(default=10.0, kw_only=True)
    read_timeout: float = field(default=30.0, kw_only=True)
    operation_timeout: float = field(default=300.0, kw_only=True)
    max_connections: int | None = field(default=None, kw_only=True)
    window: int | None = field(default=None, kw_only=True)
    window_bytes: int = field(default=256 * _MIB, kw_only=True)
    read_ahead: int = field(default=4, kw_only=True)
    upload_buffers: int = field(default=6, kw_only=True)
    checksum: ChecksumAlgorithm = field(default="auto", kw_only=True)
    verify_checksums: bool = field(default=True, kw_only=True)
    ca_bundle: str | None = field(default=None, kw_only=True)
    huge_pages: bool = field(default=True, kw_only=True)
    put_options: PutOptions = field(default_factory=PutOptions, kw_only=True)
    cache: CacheConfig | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every option, so that a mistake fails before any request."""
        for name in ("throughput_target_gbps", "connect_timeout", "read_timeout", "operation_timeout"):
            _check_number(name, getattr(self, name))
        for name in ("max_attempts", "window_bytes", "upload_buffers"):
            _check_int(name, getattr(self, name), 1)
        if self.window is not None:
            _check_int("window", self.window, 1)
        _check_int("read_ahead", self.read_ahead, 0)
        _check_int("part_size", self.part_size, 1)
        if not 5 * _MIB <= self.part_size <= 5 * _GIB:
            raise ValueError(f"part_size must be 5 MiB to 5 GiB, got {self.part_size} bytes")
        if self.max_connections is not None:
            _check_int("max_connections", self.max_connections, 1)
        if self.cache is not None and not isinstance(self.cache, CacheConfig):
            raise TypeError(f"cache must be a CacheConfig or None, got {type(self.cache).__name__}")
        if self.unsigned and self.requester_pays:
            raise ValueError("requester_pays needs credentials: it excludes unsigned")
        if isinstance(self.engine, str) and self.engine not in ("direct", "boto3", "memory"):
            raise ValueError(f"unknown engine {self.engine!r}; expected 'direct', 'boto3', 'memory' or a function")
        if self.checksum not in ("auto", "crc64nvme", "crc32c", "crc32", "none"):
            raise ValueError(f"unknown checksum {self.checksum!r}; expected auto, crc64nvme, crc32c, crc32 or none")

    @property
    def connections(self) -> int:
        """How many connections one large transfer uses."""
        if self.max_connections is not None:
            return self.max_connections
        return max(4, min(256, math.ceil(self.throughput_target_gbps * 1e9 / 8 / _BYTES_PER_CONNECTION)))


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_int(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
