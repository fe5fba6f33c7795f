"""Ranks train on tar shards that hold different numbers of samples, stop in the middle, and go on, also as more ranks.

torchrun --nproc-per-node=2 tar_ddp.py s3://my-bucket/shards/ s3://my-bucket/run/state.json --steps 3
torchrun --nproc-per-node=3 tar_ddp.py s3://my-bucket/shards/ s3://my-bucket/run/state.json
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from s3torch.client import ObjectNotFoundError, S3Client, parse_s3_uri
from s3torch.datasets import S3TarDataset, list_index, merge_states


def decode(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make input and target of one sample's files."""
    return torch.tensor(list(sample["bin"]), dtype=torch.float32), torch.tensor([float(sample["cls"])])


def train(shards: str, saved: str, steps: int | None, samples: int) -> None:
    """Go on where all ranks have stopped, and stop after some steps."""
    rank, client, place = dist.get_rank(), S3Client("us-east-1"), parse_s3_uri(saved)
    index = list_index(client, shards, group=dist.group.WORLD).where(suffix=".tar")  # listed once, the same for all
    # Each step waits for all ranks: each gets its share of so many samples, whatever its shards hold.
    dataset = S3TarDataset.from_index(index, region="us-east-1", transform=decode, shuffle=True, samples=samples)
    try:
        dataset.load_state_dict(json.loads(client.read(*place)))
    except ObjectNotFoundError:
        pass  # the first run
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    seen = 0
    for inputs, targets in islice(DataLoader(dataset, batch_size=4), steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        seen += len(inputs)
    # How far shards were read is known only to who reads them: all states make one, for any number of ranks.
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, dataset.state_dict())
    if rank == 0:
        client.put(*place, json.dumps(merge_states(states)).encode())
    dist.barrier()
    print(f"rank {rank} saw {seen}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", help="s3://bucket/prefix of the shards: samples of four bytes .bin and a number .cls")
    parser.add_argument("saved", help="s3://bucket/key of the state")
    parser.add_argument("--steps", type=int, help="stop after so many")
    parser.add_argument("--samples", type=int, default=60, help="samples in an epoch, over all ranks")
    arguments = parser.parse_args()
    dist.init_process_group("gloo")
    try:
        train(arguments.shards, arguments.saved, arguments.steps, arguments.samples)
    finally:
        dist.destroy_process_group()
