"""How many times a new dataset waits for the store before its first batch is there: round trips, not seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest
import torch
from torch.utils.data import DataLoader

from s3torch.client import EngineContext, GetRequest, GetResult, S3ClientConfig
from s3torch.client.listing import ListPage
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Into
from s3torch.client.transfers import DoneTransfer
from s3torch.datasets import S3IterableDataset, S3MapDataset, decode

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

T = TypeVar("T")


@dataclass
class FarTransfer(Generic[T]):
    """Done one round trip after it was started, as are all that were started by then."""

    engine: FarEngine
    inner: DoneTransfer[T]
    started: int

    def done(self) -> bool:
        return self.engine.round_trips > self.started

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        if not self.done():
            self.engine.round_trips += 1

    def advance(self, seconds: float = 0.0) -> None:
        pass

    def result(self) -> T:
        self.wait()
        return self.inner.result()

    def cancel(self) -> None:
        pass

    def rebase(self, body: object) -> None:
        raise AssertionError("not for downloads")


class FarEngine(MemoryEngine):
    """Counts the round trips for which somebody has waited."""

    def __init__(self, context: EngineContext, store: MemoryStore) -> None:
        super().__init__(context, store)
        self.round_trips = 0

    def start_get(self, request: GetRequest, into: Into = None) -> FarTransfer[GetResult]:  # type: ignore[override]  # waits
        return FarTransfer(self, super().start_get(request, into), self.round_trips)

    def start_list_page(self, *names: str, **options: Any) -> FarTransfer[ListPage]:  # type: ignore[override]  # waits
        return FarTransfer(self, super().start_list_page(*names, **options), self.round_trips)


@pytest.mark.parametrize("style", [S3IterableDataset, S3MapDataset])
@pytest.mark.parametrize("options", [{}, {"transform_workers": 2}], ids=["", "threads"])
def test_a_page_of_the_listing_and_the_objects_of_the_batch(
    memory: Place, style: type[S3IterableDataset | S3MapDataset], options: dict[str, Any]
) -> None:
    memory.fill({f"train/{number:04d}": bytes([number % 256]) * 1000 for number in range(2500)})
    engines: list[FarEngine] = []

    def make(context: EngineContext) -> FarEngine:
        engines.append(FarEngine(context, memory.store))
        return engines[-1]

    dataset = style.from_prefix(
        "s3://bucket/train/",
        region="us-east-1",
        s3client_config=S3ClientConfig(engine=make),
        transform=decode.Tensor(),
        **options,
    )
    batch = next(iter(DataLoader(dataset, batch_size=32)))
    assert torch.equal(batch[:, 0], torch.arange(32, dtype=torch.uint8))
    (engine,) = engines
    if style is S3IterableDataset:
        assert engine.round_trips == 2
    else:
        assert engine.round_trips <= 5  # an index lists all of it first: three pages
