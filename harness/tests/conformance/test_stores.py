"""Every engine against the laws of a store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import Arrangement, Connect, MemoryArrangement, StoreConformance
from s3torch.harness.conformance._known_servers import MOTO, SWIFT
from s3torch.harness.servers import MotoServer, SwiftServer
from s3torch.harness.servers._address import Server

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("dummy_aws_env")]


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[tuple[str, str], S3Client]]:
    """Clients with default options by endpoint and engine: one serves all laws."""
    made: dict[tuple[str, str], S3Client] = {}
    yield made
    for client in made.values():
        client.close()


class TestMemory(StoreConformance):
    is_networked = False
    is_seen_by_other_processes = False

    @pytest.fixture
    def endpoint(self) -> str:
        return f"memory://{uuid.uuid4().hex}"

    @pytest.fixture
    def arrangement(self, endpoint: str) -> Arrangement:
        return MemoryArrangement(MemoryStore.named(endpoint))

    @pytest.fixture
    def connect(self, endpoint: str) -> Connect:
        def connect(*, endpoint: str | None = endpoint, **options: Any) -> S3Client:
            return S3Client(endpoint=endpoint, s3client_config=S3ClientConfig(engine="memory", **options))

        return connect


class OnServer(StoreConformance):
    engine = ""

    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    @pytest.fixture
    def client(self, connect: Connect, clients: dict[tuple[str, str], S3Client], server: Server) -> S3Client:
        place = (server.endpoint, self.engine)
        if place not in clients:
            clients[place] = connect()
        return clients[place]

    @pytest.fixture
    def connect(self, server: Server) -> Connect:
        def connect(*, endpoint: str | None = server.endpoint, **options: Any) -> S3Client:
            config = S3ClientConfig(engine=self.engine, force_path_style=True, **options)
            return S3Client(server.region, endpoint=endpoint, s3client_config=config)

        return connect


class OnMoto(OnServer):
    refused_keys = MOTO.refused_keys
    broken_by_server = MOTO.broken_for_engines

    @pytest.fixture
    def server(self, moto_server: MotoServer) -> MotoServer:
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
    checks_credentials = SWIFT.checks_credentials
    has_storage_classes = SWIFT.has_storage_classes
    has_tags = SWIFT.has_tags
    start_methods = ("fork",)  # each takes seconds, and moto has seen them all

    @pytest.fixture
    def examples(self) -> int:
        return 2

    @pytest.fixture
    def server(self, swift_server: SwiftServer) -> SwiftServer:
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
