"""Save from any number of ranks, and load on any other number.

    torchrun --nproc-per-node 2 dcp_ranks.py s3://bucket/run/step-100 save
    torchrun --nproc-per-node 3 dcp_ranks.py s3://bucket/run/step-100 load

Without FSDP: any state whose tensors are spread over ranks is saved and loaded in this way.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from s3torch.dcp import S3StorageReader, S3StorageWriter

ROWS, COLUMNS = 1200, 64


def main(path: str, action: str) -> None:
    """Save or load a matrix whose rows are spread over the ranks."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(float(ROWS * COLUMNS)).reshape(ROWS, COLUMNS)
    if action == "save":
        state: dict[str, Any] = {"matrix": distribute_tensor(whole, mesh, [Shard(0)]), "step": 100}
        dcp.save(state, storage_writer=S3StorageWriter(None, path))
    else:
        state = {"matrix": distribute_tensor(torch.zeros(ROWS, COLUMNS), mesh, [Shard(0)]), "step": 0}
        dcp.load(state, storage_reader=S3StorageReader(None, path))
        mine = distribute_tensor(whole, mesh, [Shard(0)]).to_local()
        assert torch.equal(state["matrix"].to_local(), mine)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()}: {action} done")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        main(*sys.argv[1:])
    finally:
        dist.destroy_process_group()
