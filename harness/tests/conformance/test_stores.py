"""Every engine against the laws of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness.tests.conformance.targets import (
    Boto3OnMoto,
    Boto3OnSwift,
    DirectOnMoto,
    DirectOnSwift,
    InMemory,
    Target,
)

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.conformance import Connect, StoreConformance

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[tuple[str, str], S3Client]]:
    """Clients with default options by endpoint and engine: one serves all laws."""
    made: dict[tuple[str, str], S3Client] = {}
    yield made
    for client in made.values():
        client.close()


class Ours(StoreConformance):
    """An engine of this project."""

    @pytest.fixture
    def client(self, connect: Connect, clients: dict[tuple[str, str], S3Client], target: Target) -> S3Client:
        name = (target.endpoint, target.engine)
        if name not in clients:
            clients[name] = connect()
        return clients[name]

    @pytest.fixture
    def connect(self, target: Target) -> Connect:
        def connect(*, endpoint: str | None = target.endpoint, **options: Any) -> S3Client:
            config = S3ClientConfig(engine=target.engine, force_path_style=True, **options)
            return S3Client(target.region, endpoint=endpoint, s3client_config=config)

        return connect


class TestMemory(InMemory, Ours):
    pass


class TestBoto3OnMoto(Boto3OnMoto, Ours):
    pass


class TestDirectOnMoto(DirectOnMoto, Ours):
    pass


class TestBoto3OnSwift(Boto3OnSwift, Ours):
    pass


class TestDirectOnSwift(DirectOnSwift, Ours):
    pass
