"""What the tests of the direct engine share: nothing of the user's environment, and clients that are closed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s3torch.client import S3Client, S3ClientConfig


@pytest.fixture(autouse=True)
def isolated(dummy_aws_env: None) -> None:
    """Dummy keys for every test, and nothing of the user's own."""


@pytest.fixture
def make_client() -> Iterator[Callable[..., S3Client]]:
    """Make clients of the direct engine; they are closed when the test ends.

    Their deadlines are longer than a busy machine takes, and than tests let errors take: where a fault is to be noticed
    by a deadline, the test gives a shorter one.
    """
    clients: list[S3Client] = []

    def make(endpoint: str | None, *, region: str | None = "us-east-1", **options: Any) -> S3Client:
        defaults = {
            "force_path_style": True,
            "connect_timeout": 20.0,
            "read_timeout": 20.0,
            "operation_timeout": 60.0,
        }
        client = S3Client(region, endpoint=endpoint, s3client_config=S3ClientConfig(**{**defaults, **options}))
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    clients.clear()
    gc.collect()  # whatever was not closed warns within the test that left it
