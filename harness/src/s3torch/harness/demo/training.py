"""One training run: read the images from S3, save a checkpoint there after each epoch, resume from the latest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import S3Client, parse_s3_uri
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.harness.demo.data import decode_image
from s3torch.harness.demo.events import Ended, EpochEnded, Event, Held, Loaded, Saved, Started, Step
from s3torch.harness.demo.model import Network, be_deterministic, digest_of, jitter
from s3torch.harness.demo.settings import BATCH_SIZE, Job

__all__ = ["latest_checkpoint", "train"]

_HOLD_SECONDS = 60.0
_WORKER_SECONDS = 100.0


class EpochSampler(Sampler[int]):
    """A random order of ``count`` indices that depends on the seed and the epoch alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.epoch = 0
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self._count, generator=generator).tolist()


def train(job: Job, emit: Callable[[Event], None]) -> None:
    """Train as told, and tell of it.

    Args:
        job: What to do.
        emit: Is given every event.
    """
    be_deterministic(job.seed)
    store = job.store
    config = store.client_config()
    checkpoints = S3Checkpoint(region=store.region, endpoint=store.endpoint, s3client_config=config)
    client = S3Client(store.region, endpoint=store.endpoint, s3client_config=config)
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loader, sampler = _make_loader(job)

    first = 1
    if job.resume:
        epoch, uri = latest_checkpoint(client, f"{store.uri}/checkpoints/{job.run}/")
        started = time.perf_counter()
        state = checkpoints.load(uri)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        first = int(state["epoch"]) + 1
        emit(Loaded(epoch, uri, time.perf_counter() - started))

    emit(Started(first, job.steps))
    loss = float("nan")
    for epoch in range(first, job.epochs + 1):
        sampler.epoch = epoch
        loss = _train_epoch(job, epoch, model, optimizer, loader, emit)
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        uri = f"{store.uri}/checkpoints/{job.run}/epoch-{epoch:04d}.pt"
        started = time.perf_counter()
        checkpoints.save(state, uri)
        seconds = time.perf_counter() - started
        where = parse_s3_uri(uri)
        emit(Saved(epoch, uri, client.head_object(where.bucket, where.key).size, seconds))
    emit(Ended(loss, digest_of(model, optimizer)))


def latest_checkpoint(client: S3Client, prefix_uri: str) -> tuple[int, str]:
    """Find the newest checkpoint in the store.

    Args:
        client: Reaches the store.
        prefix_uri: What the checkpoints' URIs begin with.

    Returns:
        Its epoch and its URI.

    Raises:
        FileNotFoundError: There is none.
    """
    where = parse_s3_uri(prefix_uri)
    keys = [info.key for page in client.list_objects(where.bucket, where.key) for info in page.object_info]
    if not keys:
        raise FileNotFoundError(f"no checkpoint under {prefix_uri}")
    newest = max(keys)
    return int(newest.rsplit("-", 1)[1].removesuffix(".pt")), f"s3://{where.bucket}/{newest}"


def _make_loader(job: Job) -> tuple[DataLoader[Any], EpochSampler]:
    store = job.store
    where: dict[str, Any] = {
        "region": store.region,
        "endpoint": store.endpoint,
        "s3client_config": store.client_config(),
        "transform": decode_image,
    }
    how: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "num_workers": job.workers,
        "persistent_workers": job.workers > 0,
        "timeout": _WORKER_SECONDS if job.workers else 0,
        # Its own generator: making an iterator draws a number, and that must not come from the one being restored.
        "generator": torch.Generator().manual_seed(job.seed),
    }
    sampler = EpochSampler(job.samples, job.seed)
    if job.style == "map":
        return DataLoader(S3MapDataset.from_prefix(f"{store.uri}/images/", **where), sampler=sampler, **how), sampler
    dataset = S3IterableDataset.from_prefix(f"{store.uri}/images/", enable_sharding=True, **where)
    return DataLoader(dataset, **how), sampler


def _train_epoch(
    job: Job,
    epoch: int,
    model: Network,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Any],
    emit: Callable[[Event], None],
) -> float:
    """Train one epoch; return the mean of the batches' losses."""
    total, seen, right, step = 0.0, 0, 0, 0
    started = time.perf_counter()
    for images, labels in loader:
        logits = model(jitter(images))
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        step += 1
        total += loss.item()
        seen += len(labels)
        right += int((logits.argmax(1) == labels).sum())
        emit(Step(epoch, step, loss.item(), seen / (time.perf_counter() - started)))
        if job.hold_at == (epoch, step):
            _hold(emit)
    if seen != job.samples:
        raise RuntimeError(f"the epoch held {seen} images, the data set has {job.samples}")
    emit(EpochEnded(epoch, total / step, right / seen, seen / (time.perf_counter() - started)))
    return total / step


def _hold(emit: Callable[[Event], None]) -> None:
    """Stand still until killed; speaking all the while, so that a parent that is gone is noticed."""
    deadline = time.monotonic() + _HOLD_SECONDS
    while time.monotonic() < deadline:
        emit(Held())
        time.sleep(0.05)
    raise TimeoutError(f"nobody ended the process within {_HOLD_SECONDS:g} s")
