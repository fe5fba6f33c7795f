"""An engine of each kind with its store, made once: a client costs more than most laws."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import Arrangement, Boto3Arrangement, MemoryArrangement, Recorder, StoredObject

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

StoreWith: TypeAlias = Callable[[bytes, Callable[[S3Client, str, str], Any]], StoredObject]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Place:
    """A bucket, a client of the engine under test, and the suite's own way to the store."""

    bucket: str
    client: S3Client
    recorder: Recorder
    arrangement: Arrangement


@pytest.fixture(params=["memory", "boto3", "direct"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine."""
    return str(request.param)


@pytest.fixture
def examples(engine: str) -> int:
    """Fewer where each request goes over a socket to a slow server."""
    return 25 if engine == "memory" else 6


@pytest.fixture(scope="session")
def moto_arrangement(moto_server: MotoServer) -> Iterator[Arrangement]:
    """The suite's own way to moto."""
    arrangement = Boto3Arrangement(moto_server.boto3_client())
    yield arrangement
    arrangement.close()


@pytest.fixture(scope="session")
def places() -> Iterator[dict[str, Place]]:
    """What was made so far, by engine."""
    made: dict[str, Place] = {}
    yield made
    for place in made.values():
        place.client.close()


@pytest.fixture
def place(engine: str, places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    """The engine's place, failing no requests."""
    if engine not in places:
        if engine == "memory":
            endpoint = f"memory://{uuid.uuid4().hex}"
            arrangement: Arrangement = MemoryArrangement(MemoryStore.named(endpoint))
        else:
            endpoint = request.getfixturevalue("moto_server").endpoint
            arrangement = request.getfixturevalue("moto_arrangement")
        recorder = Recorder(engine)
        config = S3ClientConfig(engine=recorder, force_path_style=True, part_size=5 * MIB, max_connections=4)
        client = S3Client("us-east-1", endpoint=endpoint, s3client_config=config)
        places[engine] = Place(arrangement.create_bucket(), client, recorder, arrangement)
    places[engine].recorder.clear()
    return places[engine]


@pytest.fixture
def store_with(place: Place) -> StoreWith:
    """Stores bytes as an object, to be opened by a function of client, bucket and key."""

    def store(data: bytes, open_reader: Callable[[S3Client, str, str], Any]) -> StoredObject:
        key = uuid.uuid4().hex
        place.arrangement.put(place.bucket, key, data)
        return StoredObject(
            open=lambda: open_reader(place.client, place.bucket, key),
            replace=lambda other: place.arrangement.put(place.bucket, key, other),
            remove=lambda: place.arrangement.remove(place.bucket, key),
            fetched=lambda: place.recorder.fetched,
            fail=place.recorder.fail,
            heal=place.recorder.clear,
        )

    return store
