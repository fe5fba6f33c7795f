from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from s3torch.client import (
    CopyResult,
    GetRequest,
    PartResult,
    PutOptions,
    PutResult,
    S3ClientConfig,
    ServerError,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Body, EngineContext
from s3torch.client.transfers import DoneTransfer
from s3torch.lightning import S3LightningCheckpoint


class WatchedEngine(MemoryEngine):
    """Notes what changes the store, in order, and lets a test hold or fail it."""

    def __init__(self, context: EngineContext, store: MemoryStore) -> None:
        super().__init__(context, store)
        self.changes: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda name, key: None
        """Called with what is done and the key; may wait or raise."""
        self.release_count = 0

    def note(self, name: str, key: str) -> None:
        self.before(name, key)
        self.changes.append((name, key))

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> DoneTransfer[PutResult]:
        self.note("put", key)
        return super().start_put(bucket, key, body, options)

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> DoneTransfer[PartResult]:
        self.note("part", key)
        return super().start_part(bucket, key, upload_id, number, body)

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        self.note("copy", key)
        return super().copy(source, bucket, key, options)

    def delete(self, bucket: str, key: str) -> None:
        self.note("delete", key)
        super().delete(bucket, key)

    def release_thread(self) -> None:
        self.release_count += 1


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    store = MemoryStore.named(f"memory://{uuid.uuid4()}")
    store.create_bucket("bucket")
    yield store
    store.clear()


@pytest.fixture
def engine(store: MemoryStore) -> WatchedEngine:
    return WatchedEngine(EngineContext("us-east-1", None, "test", S3ClientConfig()), store)


@pytest.fixture
def config(engine: WatchedEngine) -> S3ClientConfig:
    return S3ClientConfig(engine=lambda context: engine, part_size=5 << 20)


@pytest.fixture
def plugin(config: S3ClientConfig) -> S3LightningCheckpoint:
    return S3LightningCheckpoint("us-east-1", config)


@pytest.fixture
def keys(plugin: S3LightningCheckpoint) -> Callable[[], list[str]]:
    """Tells which objects there are."""

    def list_keys() -> list[str]:
        return [info.key for page in plugin.client.list_objects("bucket") for info in page.object_info]

    return list_keys


class Gate:
    """Holds what changes an object until the test lets it go on."""

    def __init__(self, name: str = "put") -> None:
        self.name = name
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.error: Exception | None = None

    def __call__(self, name: str, key: str) -> None:
        if name == self.name:
            self.reached.set()
            assert self.opened.wait(30), "the test never opened the gate"
            if self.error is not None:
                raise self.error


@pytest.fixture
def gate(engine: WatchedEngine) -> Iterator[Gate]:
    gate = Gate()
    engine.before = gate
    yield gate
    gate.opened.set()


@pytest.fixture
def server_error() -> ServerError:
    return ServerError("the store failed", operation="PutObject", bucket="bucket", key="key")


class Regression(LightningModule):
    """Learns a line; small enough for tests, with an optimizer that has a state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.losses: list[float] = []
        self.score = iter(range(1000))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("score", float(next(self.score)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def make_loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 4, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)


@pytest.fixture
def make_model() -> Callable[[], Regression]:
    def make() -> Regression:
        torch.manual_seed(1)
        return Regression()

    return make


@pytest.fixture
def loader() -> DataLoader[Any]:
    return make_loader()


@pytest.fixture
def make_trainer(plugin: S3LightningCheckpoint, tmp_path: Any) -> Callable[..., Trainer]:
    def make(*callbacks: Any, **options: Any) -> Trainer:
        options = {
            "plugins": [plugin],
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            **options,
        }
        return Trainer(callbacks=list(callbacks), **options)

    return make
