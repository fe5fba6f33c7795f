"""What the subjects of the matrix read and write: made once, the same in every run."""

from __future__ import annotations

import functools
import io
import tarfile
import uuid
import warnings
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.dcp import S3StorageWriter
from s3torch.harness.conformance.arrangement import make_bytes

__all__ = [
    "LARGE",
    "MIB",
    "SHARDS",
    "SMALL",
    "WRITTEN",
    "blank_state",
    "is_state",
    "load_bytes",
    "make_state",
    "objects_to_read",
    "objects_to_replace",
    "shard_samples",
]

MIB = 1024 * 1024

LARGE = "large"
"""Key of the object of some parts."""
SMALL = tuple(f"small/{number:02}" for number in range(12))
"""Keys of those that are read whole."""
SHARDS = tuple(f"shards/{number}.tar" for number in range(3))
"""Keys of the tar shards."""
WRITTEN = "written"
"""Key of the object that is written; for a distributed checkpoint its folder."""

_LARGE_SIZE = 11 * MIB
_SMALL_SIZE = 40_000
_SHARD_SAMPLES, _SAMPLE_SIZE = 4, 300_000
_OLD, _NEW = 0, 1


def make_state(step: int) -> dict[str, Any]:
    """Return the state of a training: of another step, others of all bytes."""
    generator = torch.Generator().manual_seed(step)
    return {
        "large": torch.randint(0, 1 << 30, (1_500_000,), generator=generator, dtype=torch.int32),
        "small": torch.randn(7, 3, generator=generator),
        "step": step,
    }


def blank_state() -> dict[str, Any]:
    """Return a state to load into."""
    state = make_state(_OLD)
    state["large"].zero_()
    state["small"].zero_()
    state["step"] = -1
    return state


def is_state(state: Any) -> bool:
    """Whether a state is, as a whole, one that `make_state` has made."""
    step = state["step"]
    if step not in (_OLD, _NEW):
        return False
    expected = make_state(step)
    return torch.equal(state["large"], expected["large"]) and torch.equal(state["small"], expected["small"])


def load_bytes(data: bytes) -> Any:
    """Load what `torch.save` has written."""
    return torch.load(io.BytesIO(data), weights_only=True)


@functools.cache
def _saved(step: int) -> bytes:
    file = io.BytesIO()
    torch.save(make_state(step), file)
    return file.getvalue()


@functools.cache
def _distributed(step: int) -> dict[str, bytes]:
    """The objects of a distributed checkpoint, by their names in its folder."""
    name = f"contents-{uuid.uuid4().hex}"
    bucket = MemoryStore.named(name).create_bucket("bucket")
    writer = S3StorageWriter(
        "us-east-1", f"s3://{bucket}/saved", endpoint=name, s3client_config=S3ClientConfig(engine="memory")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a job of one process
        dcp.save(make_state(step), storage_writer=writer)
    found = MemoryStore.named(name).objects(bucket)
    return {key.removeprefix("saved/"): each.data for key, each in found.items()}


@functools.cache
def shard_samples() -> dict[str, bytes]:
    """Return what the samples of all shards hold, by their keys, in order."""
    numbers = range(len(SHARDS) * _SHARD_SAMPLES)
    return {f"{number:04}": make_bytes(_SAMPLE_SIZE + number, 200 + number) for number in numbers}


def _shard(number: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key, data in list(shard_samples().items())[number * _SHARD_SAMPLES : (number + 1) * _SHARD_SAMPLES]:
            member = tarfile.TarInfo(f"{key}.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


@functools.cache
def objects_to_read() -> dict[str, bytes]:
    """Return the objects that subjects read, by key; those of the checkpoints are in ``saved``, ``folder/``."""
    objects = {LARGE: make_bytes(_LARGE_SIZE), "saved": _saved(_OLD)}
    objects.update({key: make_bytes(_SMALL_SIZE + number, number) for number, key in enumerate(SMALL)})
    objects.update({key: _shard(number) for number, key in enumerate(SHARDS)})
    objects.update({f"folder/{name}": data for name, data in _distributed(_OLD).items()})
    return objects


def objects_to_replace(subject: str) -> dict[str, bytes]:
    """Return what lies where a subject writes.

    Args:
        subject: The name of one that writes.
    """
    if subject == "dcp-save":
        return {f"{WRITTEN}/{name}": data for name, data in _distributed(_OLD).items()}
    if subject == "checkpoint-save":
        return {WRITTEN: _saved(_OLD)}
    return {WRITTEN: old_bytes()}


@functools.cache
def old_bytes() -> bytes:
    """Return what lies where plain bytes are written."""
    return make_bytes(100_000, 100)


@functools.cache
def new_bytes(size: int) -> bytes:
    """Return what is written there."""
    return make_bytes(size, 101)
