"""Training processes against a server: a resume is exact, and one that is not is found out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import pytest
import torch

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.demo.events import Ended, EpochEnded, Event, Loaded, Started, Step
from s3torch.harness.demo.process import DemoError, WorkerProcess
from s3torch.harness.demo.settings import Job, StoreAddress
from s3torch.harness.demo.training import latest_checkpoint
from s3torch.harness.demo.verdict import RunRecord, compare
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._address import own_environment

SAMPLES, EPOCHS = 128, 2

# Several processes import torch one after the other, which takes its time on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(175)]


@pytest.fixture(scope="module")
def env(moto_server: MotoServer) -> dict[str, str]:
    return {**own_environment(), **moto_server.env()}


@pytest.fixture(scope="module")
def store(moto_server: MotoServer, env: dict[str, str]) -> StoreAddress:
    """A store with the images in it."""
    bucket = moto_server.create_bucket(f"demo-{os.getpid()}")
    address = StoreAddress(f"s3://{bucket}/a", moto_server.region, moto_server.endpoint, None, "direct")
    follow(Job(address, "write", SAMPLES), env)
    return address


@pytest.fixture(scope="module")
def straight(store: StoreAddress, env: dict[str, str]) -> RunRecord:
    return follow(job(store), env)


def job(store: StoreAddress, **changes: object) -> Job:
    plain = Job(store, "train", SAMPLES, run="straight", epochs=EPOCHS)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # each test names real fields


def follow(job: Job, env: dict[str, str]) -> RunRecord:
    record = RunRecord()
    with WorkerProcess(job, env) as process:
        for event in process.events():
            note(record, event)
    return record


def note(record: RunRecord, event: Event) -> None:
    if isinstance(event, Started):
        record.first_epoch = event.epoch
    elif isinstance(event, Step):
        record.losses[event.epoch, event.step] = event.loss
    elif isinstance(event, EpochEnded):
        record.epochs.append(event)
    elif isinstance(event, Loaded):
        record.loaded = event
    elif isinstance(event, Ended):
        record.loss, record.digest = event.loss, event.digest


@pytest.fixture
def after_first_epoch(straight: RunRecord, store: StoreAddress, moto_server: MotoServer) -> Iterator[S3Checkpoint]:
    """Leave of the uninterrupted run the checkpoint of its first epoch alone, as run ``resumed``."""
    assert straight.digest
    client = moto_server.boto3_client()
    bucket = store.uri.split("/")[2]
    source = {"Bucket": bucket, "Key": "a/checkpoints/straight/epoch-0001.pt"}
    client.copy_object(Bucket=bucket, Key="a/checkpoints/resumed/epoch-0001.pt", CopySource=source)
    client.delete_object(Bucket=bucket, Key="a/checkpoints/resumed/epoch-0002.pt")
    client.close()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto_server.env().items():
            patch.setenv(name, value)
        yield S3Checkpoint(region=store.region, endpoint=store.endpoint, s3client_config=store.client_config())


@pytest.mark.usefixtures("after_first_epoch")
def test_a_resumed_run_ends_exactly_as_the_uninterrupted_one(
    straight: RunRecord, store: StoreAddress, env: dict[str, str]
) -> None:
    verdict = compare(straight, follow(job(store, run="resumed", resume=True), env))
    assert verdict.differences == ()
    assert verdict.batches == 4


@pytest.mark.usefixtures("after_first_epoch")
def test_a_wrong_seed_is_found(straight: RunRecord, store: StoreAddress, env: dict[str, str]) -> None:
    verdict = compare(straight, follow(job(store, run="resumed", resume=True, seed=8), env))
    assert len(verdict.differences) == 3  # the batches, the final loss, the parameters


def test_a_random_state_that_is_not_restored_is_found(
    straight: RunRecord, store: StoreAddress, env: dict[str, str], after_first_epoch: S3Checkpoint
) -> None:
    uri = f"{store.uri}/checkpoints/resumed/epoch-0001.pt"
    state = after_first_epoch.load(uri)
    state["rng"] = torch.Generator().manual_seed(1).get_state()
    after_first_epoch.save(state, uri)
    assert not compare(straight, follow(job(store, run="resumed", resume=True), env)).is_same


def test_the_iterable_style_sees_every_image_too(store: StoreAddress, env: dict[str, str]) -> None:
    record = follow(job(store, run="iterable", style="iterable", epochs=1, workers=2), env)
    assert record.digest
    assert len(record.losses) == SAMPLES // 32


def test_what_a_worker_misses_is_one_clear_line(store: StoreAddress, env: dict[str, str]) -> None:
    nowhere = dataclasses.replace(store, uri="s3://no-such-bucket-at-all/a")
    with pytest.raises(DemoError, match="no-such-bucket-at-all") as caught:
        follow(job(nowhere, workers=1), env)
    assert "\n" not in str(caught.value)


def test_the_latest_checkpoint_is_found_in_the_store() -> None:
    MemoryStore.named("memory://demo").create_bucket("b")
    client = S3Client(endpoint="memory://demo", s3client_config=S3ClientConfig(engine="memory"))
    with pytest.raises(FileNotFoundError, match="no checkpoint under s3://b/run/"):
        latest_checkpoint(client, "s3://b/run/")
    for epoch in (9, 10, 2):
        client.put("b", f"run/epoch-{epoch:04d}.pt", b"x")
    assert latest_checkpoint(client, "s3://b/run/") == (10, "s3://b/run/epoch-0010.pt")
