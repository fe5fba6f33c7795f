"""Train with FSDP2 and save every few steps while training goes on; started again, go on from the latest checkpoint.

    torchrun --nproc-per-node 2 dcp_fsdp2.py s3://bucket/run

Kill it whenever you like, and start it again, on another number of processes if need be.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

from s3torch.dcp import S3CheckpointCatalog, S3StorageReader, S3StorageWriter

STEPS, EVERY = 6, 2


def find_latest(uri: str) -> str | None:
    """Return the newest checkpoint; all ranks get what rank 0 has found."""
    found: list[str | None] = [None]
    if dist.get_rank() == 0:
        latest = S3CheckpointCatalog(uri).latest()
        found = [latest.uri if latest else None]
    dist.broadcast_object_list(found)
    return found[0]


def main(uri: str) -> None:
    """Train; a job that has been killed is started with the same arguments."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 128), torch.nn.ReLU(), torch.nn.Linear(128, 4))
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    start = 0
    state: dict[str, Any]
    latest = find_latest(uri)
    if latest is not None:
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": model_state, "optimizer": optimizer_state, "step": 0}
        dcp.load(state, storage_reader=S3StorageReader(None, latest))
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        start = state["step"]
        print(f"rank {dist.get_rank()} goes on after step {start}")

    # Saving goes on beside training: its messages must not get between those of training.
    group: Any = dist.new_group(backend="gloo")
    saving: Any = None
    for step in range(start + 1, STEPS + 1):
        batch = torch.randn(16, 32, generator=torch.Generator().manual_seed(step))
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            if saving is not None:
                saving.result()  # a save that has failed says so here
            model_state, optimizer_state = get_state_dict(model, optimizer)
            state = {"model": model_state, "optimizer": optimizer_state, "step": step}
            writer = S3StorageWriter(None, f"{uri}/step-{step}")
            saving = dcp.async_save(state, storage_writer=writer, process_group=group)
        print(f"rank {dist.get_rank()} step {step} loss {loss.item():.6f}")
    if saving is not None:
        saving.result()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        main(*sys.argv[1:])
    finally:
        dist.destroy_process_group()
