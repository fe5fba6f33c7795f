"""The writer, the reader and the catalogue on every engine against the laws of checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from harness.tests.conformance.targets import (
    MIB,
    Boto3OnMoto,
    Boto3OnSwift,
    DirectOnMoto,
    DirectOnSwift,
    InMemory,
    Target,
)

from s3torch.client import S3ClientConfig
from s3torch.dcp import S3CheckpointCatalog, S3StorageWriter
from s3torch.dcp.reader import S3StorageReader
from s3torch.harness.conformance import CheckpointConformance, EngineTap

pytestmark = pytest.mark.conformance


class Storage:
    """What this project has for checkpoints, over one engine."""

    def __init__(self, target: Target, tap: EngineTap, **options: Any) -> None:
        config = S3ClientConfig(engine=tap, force_path_style=True, part_size=5 * MIB, max_attempts=1)
        self._options: dict[str, Any] = {"endpoint": target.endpoint, "s3client_config": config}
        self._region = target.region
        self._writing = options

    def writer(self, uri: str) -> S3StorageWriter:
        return S3StorageWriter(self._region, uri, **self._options, **self._writing)

    def reader(self, uri: str) -> S3StorageReader:
        return S3StorageReader(self._region, uri, **self._options)

    def catalog(self, uri: str) -> S3CheckpointCatalog:
        return S3CheckpointCatalog(uri, self._region, **self._options)


class Ours(CheckpointConformance):
    """What this project has for checkpoints, on one thread."""

    @pytest.fixture
    def tap(self, tap: EngineTap) -> EngineTap:
        return tap

    @pytest.fixture
    def storage(self, target: Target, tap: EngineTap) -> Storage:
        return Storage(target, tap)


class TestMemory(InMemory, Ours):
    pass


class TestMemoryWithThreads(TestMemory):
    has_catalog = False  # how many threads write is nothing to it

    @pytest.fixture
    def storage(self, target: Target, tap: EngineTap) -> Storage:
        return Storage(target, tap, thread_count=3)


class TestBoto3OnMoto(Boto3OnMoto, Ours):
    pass


class TestDirectOnMoto(DirectOnMoto, Ours):
    pass


class TestBoto3OnSwift(Boto3OnSwift, Ours):
    pass


class TestDirectOnSwift(DirectOnSwift, Ours):
    pass
