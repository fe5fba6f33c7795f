"""Both datasets on every engine against the laws of datasets."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.harness.conformance import (
    Arrangement,
    IterableDatasetConformance,
    MakeDataset,
    MapDatasetConformance,
    MemoryArrangement,
)
from s3torch.readers import S3ReaderConstructor

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer, SwiftServer

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("dummy_aws_env")]

WINDOW = 6


def maker(style: Any, endpoint: str, engine: str, **others: Any) -> MakeDataset:
    config = S3ClientConfig(engine=engine, force_path_style=True, window=WINDOW, operation_timeout=60)

    def make(bucket: str, prefix: str, transform: Callable[[Any], Any], *, share: bool = False) -> Any:
        options = {"enable_sharding": True} if share else {}
        return style.from_prefix(
            f"s3://{bucket}/{prefix}",
            region="us-east-1",
            endpoint=endpoint,
            transform=transform,
            s3client_config=config,
            **options,
            **others,
        )

    return make


class InMemory:
    is_seen_by_other_processes = False
    reads_ahead = WINDOW

    @pytest.fixture
    def endpoint(self) -> Iterator[str]:
        endpoint = f"memory://{uuid.uuid4().hex}"
        yield endpoint
        MemoryStore.named(endpoint).clear()

    @pytest.fixture
    def arrangement(self, endpoint: str) -> Arrangement:
        return MemoryArrangement(MemoryStore.named(endpoint))


class TestMapInMemory(InMemory, MapDatasetConformance):
    @pytest.fixture
    def make_dataset(self, endpoint: str) -> MakeDataset:
        return maker(S3MapDataset, endpoint, "memory")


class TestIterableInMemory(InMemory, IterableDatasetConformance):
    @pytest.fixture
    def make_dataset(self, endpoint: str) -> MakeDataset:
        return maker(S3IterableDataset, endpoint, "memory")


class TestIterableOfRangesInMemory(InMemory, IterableDatasetConformance):
    """Readers of ranges are not fetched ahead: another way through the dataset."""

    @pytest.fixture
    def make_dataset(self, endpoint: str) -> MakeDataset:
        constructor = S3ReaderConstructor.range_based(buffer_size=1000)
        return maker(S3IterableDataset, endpoint, "memory", reader_constructor=constructor)


class OnMoto:
    engine = ""
    reads_ahead = WINDOW
    long_listing = 0

    @pytest.fixture
    def arrangement(self, moto_arrangement: Arrangement) -> Arrangement:
        return moto_arrangement


class TestMapDirectOnMoto(OnMoto, MapDatasetConformance):
    @pytest.fixture
    def make_dataset(self, moto_server: MotoServer) -> MakeDataset:
        return maker(S3MapDataset, moto_server.endpoint, "direct")


class TestIterableDirectOnMoto(OnMoto, IterableDatasetConformance):
    @pytest.fixture
    def make_dataset(self, moto_server: MotoServer) -> MakeDataset:
        return maker(S3IterableDataset, moto_server.endpoint, "direct")


class TestMapBoto3OnMoto(OnMoto, MapDatasetConformance):
    start_methods = ("fork",)  # what is no fork starts with no connections, whatever the engine

    @pytest.fixture
    def make_dataset(self, moto_server: MotoServer) -> MakeDataset:
        return maker(S3MapDataset, moto_server.endpoint, "boto3")


class TestIterableBoto3OnMoto(OnMoto, IterableDatasetConformance):
    start_methods = ("fork",)

    @pytest.fixture
    def make_dataset(self, moto_server: MotoServer) -> MakeDataset:
        return maker(S3IterableDataset, moto_server.endpoint, "boto3")


@pytest.mark.usefixtures("swift_credentials")
class OnSwift:
    reads_ahead = WINDOW
    long_listing = 0
    start_methods: ClassVar[tuple[str, ...]] = ("fork",)  # each takes seconds, and moto has seen them all

    @pytest.fixture
    def arrangement(self, swift_arrangement: Arrangement) -> Arrangement:
        return swift_arrangement


class TestMapDirectOnSwift(OnSwift, MapDatasetConformance):
    @pytest.fixture
    def make_dataset(self, swift_server: SwiftServer) -> MakeDataset:
        return maker(S3MapDataset, swift_server.endpoint, "direct")


class TestIterableDirectOnSwift(OnSwift, IterableDatasetConformance):
    @pytest.fixture
    def make_dataset(self, swift_server: SwiftServer) -> MakeDataset:
        return maker(S3IterableDataset, swift_server.endpoint, "direct")


class TestMapBoto3OnSwift(OnSwift, MapDatasetConformance):
    @pytest.fixture
    def make_dataset(self, swift_server: SwiftServer) -> MakeDataset:
        return maker(S3MapDataset, swift_server.endpoint, "boto3")


class TestIterableBoto3OnSwift(OnSwift, IterableDatasetConformance):
    @pytest.fixture
    def make_dataset(self, swift_server: SwiftServer) -> MakeDataset:
        return maker(S3IterableDataset, swift_server.endpoint, "boto3")
