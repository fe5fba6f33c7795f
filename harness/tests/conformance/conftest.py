"""An engine of each kind, with its store, and objects in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import (
    Arrangement,
    Boto3Arrangement,
    MemoryArrangement,
    Recorder,
    StoredObject,
)

StoreWith: TypeAlias = Callable[[bytes, Callable[[S3Client, str, str], Any]], StoredObject]

MIB = 1024 * 1024


@pytest.fixture(params=["memory", "boto3", "direct"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine."""
    return str(request.param)


@pytest.fixture
def examples(engine: str) -> int:
    """Fewer where each request goes over a socket to a slow server."""
    return 40 if engine == "memory" else 8


@pytest.fixture
def store_with(engine: str, request: pytest.FixtureRequest) -> Iterator[StoreWith]:
    """Stores bytes as an object, to be opened by a function of client, bucket and key."""
    recorder = Recorder(engine)
    config = S3ClientConfig(engine=recorder, force_path_style=True, part_size=5 * MIB, max_connections=4)
    if engine == "memory":
        endpoint = f"memory://{uuid.uuid4().hex}"
        arrangement: Arrangement = MemoryArrangement(MemoryStore.named(endpoint))
    else:
        server = request.getfixturevalue("moto_server")
        endpoint = server.endpoint
        arrangement = Boto3Arrangement(server.boto3_client())
    bucket = arrangement.create_bucket()

    with S3Client("us-east-1", endpoint=endpoint, s3client_config=config) as client:

        def store(data: bytes, open_reader: Callable[[S3Client, str, str], Any]) -> StoredObject:
            key = uuid.uuid4().hex
            arrangement.put(bucket, key, data)
            return StoredObject(
                open=lambda: open_reader(client, bucket, key),
                replace=lambda other: arrangement.put(bucket, key, other),
                remove=lambda: arrangement.remove(bucket, key),
                fetched=lambda: recorder.fetched,
                fail=recorder.fail,
                heal=recorder.clear,
            )

        yield store
    arrangement.close()
