from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import GetRequest, GetResult, S3ClientConfig, ServerError
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import EngineContext, Into
from s3torch.client.transfers import DoneTransfer


class RecordingEngine(MemoryEngine):
    """Notes the GETs, and fails from one of them on."""

    def __init__(self, context: EngineContext, store: MemoryStore) -> None:
        super().__init__(context, store)
        self.gets: list[GetRequest] = []
        self.failing_get = 10**9
        self.before_get: Callable[[int], None] = lambda number: None

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        self.gets.append(request)
        self.before_get(len(self.gets))
        if len(self.gets) >= self.failing_get:
            return DoneTransfer(error=ServerError("the store failed", operation="GetObject"))
        return super().start_get(request, into)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    store = MemoryStore.named(f"memory://{uuid.uuid4()}")
    store.create_bucket("bucket")
    yield store
    store.clear()


@pytest.fixture
def engine(store: MemoryStore) -> RecordingEngine:
    return RecordingEngine(EngineContext("us-east-1", None, "test", S3ClientConfig()), store)


@pytest.fixture
def checkpoint(engine: RecordingEngine) -> S3Checkpoint:
    config = S3ClientConfig(engine=lambda context: engine, part_size=5 << 20)
    return S3Checkpoint("us-east-1", s3client_config=config)
