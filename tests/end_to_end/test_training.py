"""Train from S3 and checkpoint to S3 through the drop-in names, against a real server, on every engine."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import pytest
import torch
from torch.utils.data import DataLoader

from s3torchconnector import S3Checkpoint, S3ClientConfig, S3IterableDataset, S3MapDataset, S3Reader
from s3torchconnector._s3client import S3Client

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # on a machine of one core
    # Python 3.12 warns of any fork beside threads, such as torch's own, which hold none of our locks.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

SAMPLES = 24
Sample = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Store:
    """Where the data and the checkpoints lie, and how to get there."""

    bucket: str
    options: dict[str, Any]

    @property
    def data(self) -> str:
        return f"s3://{self.bucket}/data/"


@pytest.fixture(params=["direct", "boto3"])
def store(request: pytest.FixtureRequest, moto_server: MotoServer) -> Store:
    bucket = moto_server.create_bucket(f"end-to-end-{uuid.uuid4().hex}")
    config = S3ClientConfig(engine=request.param, force_path_style=True, operation_timeout=60)
    region, endpoint = moto_server.region, moto_server.endpoint
    with S3Client(region, endpoint=endpoint, s3client_config=config) as client:
        generator = torch.Generator().manual_seed(0)
        for index in range(SAMPLES):
            with client.put_object(bucket, f"data/{index:03}.pt") as writer:
                sample = (torch.randn(64, generator=generator), torch.tensor(float(index)))
                torch.save(sample, cast("IO[bytes]", writer))
    return Store(bucket, {"region": region, "endpoint": endpoint, "s3client_config": config})


def decode(reader: S3Reader) -> Sample:
    sample: Sample = torch.load(cast("IO[bytes]", reader), weights_only=True)
    return sample


def labels(loader: DataLoader[Any]) -> list[float]:
    return [label for _, batch in loader for label in batch.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_both_styles_give_every_sample_once(store: Store, workers: int) -> None:
    every = [float(index) for index in range(SAMPLES)]
    mapped = S3MapDataset.from_prefix(store.data, transform=decode, **store.options)
    assert labels(DataLoader(mapped, batch_size=5, num_workers=workers)) == every
    shuffled = DataLoader(mapped, batch_size=5, num_workers=workers, shuffle=True)
    assert sorted(labels(shuffled)) == every
    iterable = S3IterableDataset.from_prefix(store.data, transform=decode, enable_sharding=True, **store.options)
    assert sorted(labels(DataLoader(iterable, batch_size=5, num_workers=workers))) == every


def train(store: Store, epochs: int, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train a small model for so many epochs, from a state or from the start."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    dataset = S3IterableDataset.from_prefix(store.data, transform=decode, **store.options)
    for _ in range(epochs):
        for inputs, target in DataLoader(dataset, batch_size=8):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(inputs).squeeze(1), target)
            loss.backward()
            optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def as_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_training_resumed_from_a_checkpoint_ends_where_it_would_have_ended(store: Store) -> None:
    checkpoint = S3Checkpoint(**store.options)
    uri = f"s3://{store.bucket}/checkpoints/epoch-2.pt"
    with checkpoint.writer(uri) as writer:
        torch.save(train(store, 2), cast("IO[bytes]", writer))
    with checkpoint.reader(uri) as reader:
        state = torch.load(cast("IO[bytes]", reader), weights_only=True)
    straight = train(store, 4)
    assert as_bytes(train(store, 2, state)) == as_bytes(straight)
    checkpoint.save(straight, uri)
    assert as_bytes(checkpoint.load(uri)) == as_bytes(straight)


def test_a_checkpoint_interrupted_while_writing_is_not_there(store: Store) -> None:
    checkpoint = S3Checkpoint(**store.options)
    uri = f"s3://{store.bucket}/checkpoints/broken.pt"

    def break_off() -> None:
        with checkpoint.writer(uri) as writer:
            writer.write(b"the beginning")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with pytest.raises(FileNotFoundError):
        checkpoint.reader(uri).read()
