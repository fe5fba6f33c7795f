"""What one rank does: ``torchrun ... worker.py JOB SAVED FOLDER``. The environment says where the store is."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from tests.multi_process.states import blank_state, check_loaded, sharded_state
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard

from s3torch.client import S3ClientConfig
from s3torch.dcp import BinaryPrefixStrategy, S3StorageReader, S3StorageWriter

CONFIG = S3ClientConfig(operation_timeout=60)
WHOLE = StateDictOptions(full_state_dict=True)


def make_writer(uri: str, **options: Any) -> S3StorageWriter:
    return S3StorageWriter(os.environ["AWS_REGION"], uri, s3client_config=CONFIG, **options)


def make_reader(uri: str) -> S3StorageReader:
    return S3StorageReader(os.environ["AWS_REGION"], uri, s3client_config=CONFIG)


class Training:
    """A model and its optimizer, sharded over all ranks."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(13, 21), torch.nn.LayerNorm(21), torch.nn.ReLU(), torch.nn.Linear(21, 3)
        )
        for layer in self.model:
            if list(layer.parameters()):
                fully_shard(layer)
        fully_shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        # A first step, so that the optimizer has a state to load into.
        self.train(1)

    def train(self, steps: int) -> None:
        for step in range(steps):
            self.optimizer.zero_grad()
            inputs = torch.randn(8, 13, generator=torch.Generator().manual_seed(step))
            self.model(inputs).square().mean().backward()
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def load(self, uri: str) -> None:
        state = self.state()
        dcp.load(state, storage_reader=make_reader(uri))
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def whole(self) -> dict[str, Any]:
        """Everything, on every rank."""
        model, optimizer = get_state_dict(self.model, self.optimizer, options=WHOLE)
        return {"model": model, "optimizer": optimizer}


def save(uri: str, folder: Path) -> None:
    """Save everything under one URI; leave the whole training state in a local file."""
    dcp.save(sharded_state(1), storage_writer=make_writer(f"{uri}/plain", thread_count=2))
    # A group of its own: its collectives run beside those of the next save.
    group = dist.new_group()
    assert isinstance(group, dist.ProcessGroup)
    pending = dcp.async_save(sharded_state(2), storage_writer=make_writer(f"{uri}/async"), process_group=group)
    dcp.save(
        sharded_state(3),
        storage_writer=make_writer(f"{uri}/prefixed", prefix_strategy=BinaryPrefixStrategy(epoch_num=1)),
    )
    pending.result(60)  # type: ignore[union-attr]  # without a stager of our own it is a future
    training = Training(4)
    training.train(3)
    dcp.save(training.state(), storage_writer=make_writer(f"{uri}/fsdp"))
    whole = training.whole()
    if dist.get_rank() == 0:
        torch.save(whole, folder / f"{uri.rpartition('/')[2]}.pt")


def load(uri: str, folder: Path) -> None:
    """Load what another number of ranks has saved, and check it."""
    for name, seed in (("plain", 1), ("async", 2), ("prefixed", 3)):
        state = blank_state()
        dcp.load(state, storage_reader=make_reader(f"{uri}/{name}"))
        check_loaded(state, seed)
    training = Training(99)
    training.load(f"{uri}/fsdp")
    expected = torch.load(folder / f"{uri.rpartition('/')[2]}.pt", weights_only=True)
    check_equal(training.whole(), expected, "")


def check_equal(found: Any, expected: Any, path: str) -> None:
    if isinstance(expected, dict):
        # Only one rank has the whole state.
        if dist.get_rank() == 0:
            assert found.keys() == expected.keys(), path
            for key in expected:
                check_equal(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), path
    else:
        assert found == expected, path


def main(job: str, saved: str, uri: str, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    try:
        if job in ("load", "load and save"):
            for each in saved.split(","):
                load(each, folder)
        if job in ("save", "load and save"):
            save(uri, folder)
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
