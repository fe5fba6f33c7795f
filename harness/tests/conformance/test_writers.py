"""The writer on every engine against the laws of a writer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import Arrangement, EngineTap, MemoryArrangement, OpenWriter, WriterConformance
from s3torch.writer import WriterClient

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


def client_of(endpoint: str, tap: EngineTap) -> WriterClient:
    # With its usual retries: moto may answer 500 to an abort that meets a part whose connection was just cut.
    config = S3ClientConfig(engine=tap, force_path_style=True, part_size=5 * MIB)
    return WriterClient("us-east-1", endpoint=endpoint, s3client_config=config)


class TestMemory(WriterConformance):
    part_size = 5 * MIB

    @pytest.fixture
    def endpoint(self) -> Iterator[str]:
        endpoint = f"memory://{uuid.uuid4().hex}"
        yield endpoint
        MemoryStore.named(endpoint).clear()

    @pytest.fixture
    def arrangement(self, endpoint: str) -> Arrangement:
        return MemoryArrangement(MemoryStore.named(endpoint))

    @pytest.fixture
    def tap(self) -> EngineTap:
        return EngineTap("memory")

    @pytest.fixture
    def open_writer(self, endpoint: str, tap: EngineTap) -> OpenWriter:
        return client_of(endpoint, tap).put_object


class OnServer(WriterConformance):
    engine = ""
    part_size = 5 * MIB

    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    @pytest.fixture
    def tap(self, taps: dict[tuple[str, str], EngineTap], server: Server) -> EngineTap:
        tap = taps.setdefault((server.endpoint, self.engine), EngineTap(self.engine, share=True))
        tap.clear()
        return tap

    @pytest.fixture
    def open_writer(self, server: Server, tap: EngineTap) -> OpenWriter:
        return client_of(server.endpoint, tap).put_object


class OnMoto(OnServer):
    @pytest.fixture
    def examples(self) -> int:
        return 6  # each request goes over a socket to a slow server

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
    def examples(self) -> int:
        return 2  # it is slower still

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
