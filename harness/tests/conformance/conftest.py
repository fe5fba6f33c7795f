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
    from s3torch.harness.servers import MotoServer, SwiftServer

StoreWith: TypeAlias = Callable[[bytes, Callable[[S3Client, str, str], Any]], StoredObject]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Place:
    """A bucket, a client of the engine under test, and the suite's own way to the store."""

    bucket: str
    client: S3Client
    recorder: Recorder
    arrangement: Arrangement


@pytest.fixture(params=["memory", "moto-boto3", "moto-direct", "swift-boto3", "swift-direct"])
def target(request: pytest.FixtureRequest) -> str:
    """The names of a server and of an engine; "memory" is both."""
    return str(request.param)


@pytest.fixture
def engine(target: str) -> str:
    """The name of an engine."""
    return target.rpartition("-")[2]


@pytest.fixture
def examples(target: str) -> int:
    """Fewer where each request goes over a socket to a slow server."""
    return {"memory": 25, "moto": 6, "swift": 2}[target.partition("-")[0]]


@pytest.fixture(scope="session")
def moto_arrangement(moto_server: MotoServer) -> Iterator[Arrangement]:
    """The suite's own way to moto."""
    arrangement = Boto3Arrangement(moto_server.boto3_client())
    yield arrangement
    arrangement.close()


@pytest.fixture(scope="session")
def swift_arrangement(swift_server: SwiftServer) -> Iterator[Arrangement]:
    """The suite's own way to Swift."""
    arrangement = Boto3Arrangement(swift_server.boto3_client())
    yield arrangement
    arrangement.close()


@pytest.fixture
def swift_credentials(swift_server: SwiftServer, dummy_aws_env: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials that Swift accepts, instead of the dummy ones."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift_server.secret_key)


@pytest.fixture(scope="session")
def places() -> Iterator[dict[str, Place]]:
    """What was made so far, by target."""
    made: dict[str, Place] = {}
    yield made
    for place in made.values():
        place.client.close()


@pytest.fixture
def place(target: str, places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    """The target's place, failing no requests."""
    server, _, engine = target.rpartition("-")
    if server == "swift":
        request.getfixturevalue("swift_credentials")
    if target not in places:
        if target == "memory":
            endpoint = f"memory://{uuid.uuid4().hex}"
            arrangement: Arrangement = MemoryArrangement(MemoryStore.named(endpoint))
        else:
            endpoint = request.getfixturevalue(f"{server}_server").endpoint
            arrangement = request.getfixturevalue(f"{server}_arrangement")
        recorder = Recorder(engine)
        config = S3ClientConfig(engine=recorder, force_path_style=True, part_size=5 * MIB, max_connections=4)
        client = S3Client("us-east-1", endpoint=endpoint, s3client_config=config)
        places[target] = Place(arrangement.create_bucket(), client, recorder, arrangement)
    places[target].recorder.clear()
    return places[target]


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
