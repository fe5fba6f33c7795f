"""Both datasets on every engine against the laws of datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from harness.tests.conformance.targets import (
    Boto3OnMoto,
    Boto3OnSwift,
    DirectOnMoto,
    DirectOnSwift,
    InMemory,
    Target,
)

from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.harness.conformance import IterableDatasetConformance, MakeDataset, MapDatasetConformance
from s3torch.readers import S3ReaderConstructor

pytestmark = pytest.mark.conformance

WINDOW = 6


def maker(style: Any, target: Target, **others: Any) -> MakeDataset:
    config = S3ClientConfig(engine=target.engine, force_path_style=True, window=WINDOW, operation_timeout=60)

    def make(bucket: str, prefix: str, transform: Callable[[Any], Any], *, share: bool = False) -> Any:
        options = {"enable_sharding": True} if share else {}
        return style.from_prefix(
            f"s3://{bucket}/{prefix}",
            region=target.region,
            endpoint=target.endpoint,
            transform=transform,
            s3client_config=config,
            **options,
            **others,
        )

    return make


class Maps(MapDatasetConformance):
    """The dataset by index of this project."""

    reads_ahead = 2 * WINDOW  # in flight, and as many again that wait for their turn

    @pytest.fixture
    def make_dataset(self, target: Target) -> MakeDataset:
        return maker(S3MapDataset, target)


class Iterables(IterableDatasetConformance):
    """The dataset to iterate over."""

    reads_ahead = 2 * WINDOW  # in flight, and as many again that wait for their turn

    @pytest.fixture
    def make_dataset(self, target: Target) -> MakeDataset:
        return maker(S3IterableDataset, target)


class OnServer:
    """What takes long on a server."""

    long_listing = 0


class OnlyForks(OnServer):
    """What is no fork starts with no connections, whatever the engine: one engine is enough."""

    start_methods: ClassVar[tuple[str, ...]] = ("fork",)


class TestMapInMemory(InMemory, Maps):
    pass


class TestIterableInMemory(InMemory, Iterables):
    pass


class TestIterableOfRangesInMemory(InMemory, Iterables):
    """Readers of ranges are not fetched ahead: another way through the dataset."""

    @pytest.fixture
    def make_dataset(self, target: Target) -> MakeDataset:
        constructor = S3ReaderConstructor.range_based(buffer_size=1000)
        return maker(S3IterableDataset, target, reader_constructor=constructor)


class TestMapDirectOnMoto(OnServer, DirectOnMoto, Maps):
    pass


class TestIterableDirectOnMoto(OnServer, DirectOnMoto, Iterables):
    pass


class TestMapBoto3OnMoto(OnlyForks, Boto3OnMoto, Maps):
    pass


class TestIterableBoto3OnMoto(OnlyForks, Boto3OnMoto, Iterables):
    pass


class TestMapDirectOnSwift(OnServer, DirectOnSwift, Maps):
    pass


class TestIterableDirectOnSwift(OnServer, DirectOnSwift, Iterables):
    pass


class TestMapBoto3OnSwift(OnServer, Boto3OnSwift, Maps):
    pass


class TestIterableBoto3OnSwift(OnServer, Boto3OnSwift, Iterables):
    pass
