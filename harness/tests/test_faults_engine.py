"""Engines that fail by a plan, without sockets."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from s3torch.client import (
    CredentialsError,
    ObjectChangedError,
    RegionError,
    S3Client,
    S3ClientConfig,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
    ServerError,
    ThrottledError,
)
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance.arrangement import MemoryArrangement, make_bytes
from s3torch.harness.faults import Fault, FaultPlan
from s3torch.harness.faults.engine import FaultyEngines
from s3torch.harness.faults.plan import make_replacement

MIB = 1024 * 1024
DATA = make_bytes(11 * MIB)


@pytest.fixture
def name() -> str:
    name = f"faults-{uuid.uuid4().hex}"
    store = MemoryStore.named(name)
    MemoryArrangement(store).put(store.create_bucket("bucket"), "key", DATA)
    return name


def connect(name: str, *faults: Fault, **plan: Any) -> tuple[S3Client, FaultyEngines]:
    engines = FaultyEngines("memory", FaultPlan(faults, **plan))
    config = S3ClientConfig(engine=engines, read_timeout=0.01, part_size=5 * MIB)
    return S3Client("us-east-1", endpoint=name, s3client_config=config), engines


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("refuse"), S3ConnectionError),
        (Fault("reset"), S3ConnectionError),
        (Fault("cut", at=-1), S3ConnectionError),
        (Fault("stall"), S3TimeoutError),
        (Fault("drip"), S3TimeoutError),
        (Fault("status", status=503), ThrottledError),
        (Fault("status", status=429), ThrottledError),
        (Fault("status", status=500), ServerError),
        (Fault("expire"), CredentialsError),
        (Fault("region"), RegionError),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_each_fault_is_its_error(name: str, fault: Fault, error: type[S3Exception]) -> None:
    client, engines = connect(name, fault, after=1, most=1)
    assert client.head_object("bucket", "key").size == len(DATA)
    with pytest.raises(error):
        client.read("bucket", "key")
    assert client.read("bucket", "key") == DATA
    assert engines.injected() == {fault.name: 1}


def test_a_lost_answer_is_carried_out(name: str) -> None:
    for at, found in ((0, DATA), (-1, b"new")):
        client, _ = connect(name, Fault("reset", at=at, methods=("PUT",)))
        with pytest.raises(S3ConnectionError):
            client.put("bucket", "key", b"new")
        assert client.read("bucket", "key") == found


def test_a_lost_answer_to_a_delete_is_carried_out(name: str) -> None:
    client, _ = connect(name, Fault("cut", at=-1))
    with pytest.raises(S3ConnectionError):
        client.delete_object("bucket", "key")
    assert MemoryStore.named(name).objects("bucket") == {}


def test_an_object_replaced_between_two_parts_is_an_error(name: str) -> None:
    client, engines = connect(name, Fault("replace"), most=1)
    with pytest.raises(ObjectChangedError):
        client.read("bucket", "key")
    assert engines.injected() == {"replace": 1}
    assert client.read("bucket", "key") == make_replacement(len(DATA))


def test_faults_of_the_wire_are_ignored(name: str) -> None:
    client, engines = connect(name, Fault("flip"), Fault("echo"), Fault("idle"))
    assert client.read("bucket", "key") == DATA
    assert engines.injected() == {}
