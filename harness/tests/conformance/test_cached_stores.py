"""Engines with a cache before them are engines: the laws of reading hold, whatever is on the disk already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness.tests.conformance.targets import DirectOnMoto, InMemory, Target

from s3torch.client import CacheConfig, S3Client, S3ClientConfig
from s3torch.harness.conformance import Connect
from s3torch.harness.conformance._store_model import ModelLaws
from s3torch.harness.conformance._store_reads import ReadLaws
from s3torch.harness.conformance._store_started_lists import StartedListLaws

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all laws."""
    return tmp_path_factory.mktemp("cache")


class Few:
    """A few examples: without the cache, as many as elsewhere are tried."""

    @pytest.fixture
    def examples(self) -> int:
        return 5


class Cached(ReadLaws, StartedListLaws):
    """An engine of this project with a cache before it; what it does not read, it passes on."""

    @pytest.fixture
    def connect(self, target: Target, directory: Path) -> Connect:
        def connect(*, endpoint: str | None = target.endpoint, **options: Any) -> S3Client:
            cache = CacheConfig(directory, min_free_bytes=0)
            config = S3ClientConfig(engine=target.engine, force_path_style=True, cache=cache, **options)
            return S3Client(target.region, endpoint=endpoint, s3client_config=config)

        return connect


class TestMemory(Few, InMemory, Cached, ModelLaws):
    pass


class TestDirectOnMoto(DirectOnMoto, Cached):
    pass
