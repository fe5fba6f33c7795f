"""Buckets with a few objects, in memory and behind a real server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from s3torch.client import EngineContext, GetRequest, GetResult, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Into
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.servers import MotoServer


@dataclass
class RecordedTransfer:
    """A transfer that is under way until somebody waits, as with sockets."""

    inner: DoneTransfer[GetResult]
    events: list[str]
    key: str
    ended: bool = False

    def done(self) -> bool:
        return self.ended

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        self.ended = True

    def advance(self, seconds: float = 0.0) -> None:
        self.events.append(f"advance {self.key}")

    def result(self) -> GetResult:
        self.ended = True
        return self.inner.result()

    def cancel(self) -> None:
        if not self.ended:
            self.events.append(f"cancel {self.key}")
        self.ended = True

    def rebase(self, body: object) -> None:
        raise AssertionError("not for downloads")


class RecordingEngine(MemoryEngine):
    """An engine in memory that notes what it is asked."""

    def __init__(self, context: EngineContext, store: MemoryStore, events: list[str]) -> None:
        super().__init__(context, store)
        self.events = events
        self.requests: list[GetRequest] = []
        self.flying: list[RecordedTransfer] = []

    def start_get(self, request: GetRequest, into: Into = None) -> RecordedTransfer:  # type: ignore[override]  # waits
        self.events.append(f"get {request.key}")
        self.requests.append(request)
        transfer = RecordedTransfer(super().start_get(request, into), self.events, request.key)
        self.flying.append(transfer)
        return transfer

    @property
    def in_flight(self) -> int:
        return sum(not transfer.ended for transfer in self.flying)


@dataclass
class Place:
    """A bucket in memory, a client to fill it, and the options by which a dataset finds it."""

    bucket: str
    store: MemoryStore
    events: list[str] = field(default_factory=list)
    engines: list[RecordingEngine] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        """What was begun and ended; how often it was driven in between is a matter of how fast the machine is."""
        return [event for event in self.events if not event.startswith("advance")]

    def engine(self, context: EngineContext) -> RecordingEngine:
        self.engines.append(RecordingEngine(context, self.store, self.events))
        return self.engines[-1]

    def config(self, window: int = 64, window_bytes: int = 256 * 2**20, part_size: int = 8 * 2**20) -> S3ClientConfig:
        return S3ClientConfig(engine=self.engine, window=window, window_bytes=window_bytes, part_size=part_size)

    def fill(self, objects: dict[str, bytes]) -> None:
        client = S3Client("us-east-1", s3client_config=S3ClientConfig(engine=lambda c: MemoryEngine(c, self.store)))
        for key, data in objects.items():
            client.put(self.bucket, key, data)


@pytest.fixture
def memory() -> Place:
    store = MemoryStore()
    store.create_bucket("bucket")
    return Place("bucket", store)


@dataclass(frozen=True)
class Served:
    """A bucket of a real server with twenty-three small objects."""

    bucket: str
    endpoint: str
    region: str
    objects: dict[str, bytes]

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/train/"


@pytest.fixture(scope="module")
def served(moto_server: MotoServer) -> Served:
    bucket = moto_server.create_bucket(f"datasets-{uuid.uuid4().hex}")
    objects = {f"train/{index:03}": f"object {index} ".encode() * (100 + index) for index in range(23)}
    server = moto_server.boto3_client()
    for key, data in objects.items():
        server.put_object(Bucket=bucket, Key=key, Body=data)
    server.put_object(Bucket=bucket, Key="validation/0", Body=b"not to be read")
    return Served(bucket, moto_server.endpoint, moto_server.region, objects)
