"""The writer, the reader and the catalogue on every engine against the laws of checkpoints."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.dcp import S3CheckpointCatalog, S3StorageWriter
from s3torch.dcp.reader import S3StorageReader
from s3torch.harness.conformance import Arrangement, CheckpointConformance, EngineTap, MemoryArrangement

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer, SwiftServer
    from s3torch.harness.servers._address import Server

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("dummy_aws_env")]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def taps() -> Iterator[dict[tuple[str, str], EngineTap]]:
    """Taps by endpoint and engine, made once: a client of boto3 takes longer to make than most laws."""
    made: dict[tuple[str, str], EngineTap] = {}
    yield made
    for tap in made.values():
        tap.close()


class Ours:
    """What this project has for checkpoints, over one engine."""

    def __init__(self, endpoint: str, tap: EngineTap, **options: Any) -> None:
        config = S3ClientConfig(engine=tap, force_path_style=True, part_size=5 * MIB, max_attempts=1)
        self._options: dict[str, Any] = {"endpoint": endpoint, "s3client_config": config}
        self._writing = options

    def writer(self, uri: str) -> S3StorageWriter:
        return S3StorageWriter("us-east-1", uri, **self._options, **self._writing)

    def reader(self, uri: str) -> S3StorageReader:
        return S3StorageReader("us-east-1", uri, **self._options)

    def catalog(self, uri: str) -> S3CheckpointCatalog:
        return S3CheckpointCatalog(uri, "us-east-1", **self._options)


class TestMemory(CheckpointConformance):
    @pytest.fixture
    def endpoint(self) -> str:
        return f"memory://{uuid.uuid4().hex}"

    @pytest.fixture
    def arrangement(self, endpoint: str) -> Arrangement:
        return MemoryArrangement(MemoryStore.named(endpoint))

    @pytest.fixture
    def tap(self) -> EngineTap:
        return EngineTap("memory")

    @pytest.fixture
    def storage(self, endpoint: str, tap: EngineTap) -> Ours:
        return Ours(endpoint, tap)


class TestMemoryWithThreads(TestMemory):
    has_catalog = False  # how many threads write is nothing to it

    @pytest.fixture
    def storage(self, endpoint: str, tap: EngineTap) -> Ours:
        return Ours(endpoint, tap, thread_count=3)


class OnServer(CheckpointConformance):
    engine = ""

    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    @pytest.fixture
    def tap(self, taps: dict[tuple[str, str], EngineTap], server: Server) -> EngineTap:
        return taps.setdefault((server.endpoint, self.engine), EngineTap(self.engine, share=self.engine == "boto3"))

    @pytest.fixture
    def storage(self, server: Server, tap: EngineTap) -> Ours:
        return Ours(server.endpoint, tap)


class OnMoto(OnServer):
    @pytest.fixture
    def server(self, moto_server: MotoServer) -> Server:
        return moto_server

    @pytest.fixture
    def arrangement(self, moto_arrangement: Arrangement) -> Arrangement:
        return moto_arrangement


class TestBoto3OnMoto(OnMoto):
    engine = "boto3"


class TestDirectOnMoto(OnMoto):
    engine = "direct"


@pytest.mark.usefixtures("swift_credentials")
class OnSwift(OnServer):
    @pytest.fixture
    def server(self, swift_server: SwiftServer) -> Server:
        return swift_server

    @pytest.fixture
    def arrangement(self, swift_arrangement: Arrangement) -> Arrangement:
        return swift_arrangement


class TestBoto3OnSwift(OnSwift):
    engine = "boto3"


class TestDirectOnSwift(OnSwift):
    engine = "direct"


# pytest collects classes by their name: the shared parts are none of its own.
del OnServer, OnMoto, OnSwift
