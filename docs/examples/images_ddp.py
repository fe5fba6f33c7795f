"""Train on images as they lie in a bucket, a folder for each class; stop in the middle of an epoch, and go on.

torchrun --nproc-per-node=2 images_ddp.py s3://my-bucket/images/ s3://my-bucket/run/checkpoint.pt --steps 3
torchrun --nproc-per-node=1 images_ddp.py s3://my-bucket/images/ s3://my-bucket/run/checkpoint.pt

However often the job is interrupted, and by how many ranks and workers it goes on, no image is seen twice in an epoch.
Fewer images than there are ranks x workers are left out at its end.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import ObjectNotFoundError, S3Client
from s3torch.datasets import S3IterableDataset, decode, list_index
from s3torch.datasets.loader import S3StatefulDataLoader

REGION = "us-east-1"


def prepare(image: torch.Tensor) -> torch.Tensor:
    """Make input for the model of a decoded image."""
    return torch.nn.functional.interpolate(image[None].float() / 255, size=(16, 16))[0]


def train(images: str, saved: str, classes: list[str], epochs: int, steps: int | None, workers: int) -> None:
    """Go on from the checkpoint, if there is one, and stop after some steps."""
    rank, checkpoints = dist.get_rank(), S3Checkpoint(region=REGION)
    # Listed once, so that no two ranks see different objects while images are being added.
    index = list_index(S3Client(REGION), images, group=dist.group.WORLD)
    dataset = S3IterableDataset.from_index(
        index,
        region=REGION,
        transform=decode.WithLabel(decode.Compose(decode.Image(), prepare), decode.FolderLabel(classes)),
        shuffle=True,
        uneven="drop",  # each step waits for all ranks: none may have one more
    )
    loader = S3StatefulDataLoader(dataset, batch_size=4, num_workers=workers)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, len(classes)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    try:
        checkpoint: dict[str, Any] = checkpoints.load(saved)
    except ObjectNotFoundError:
        print(f"rank {rank} begins", flush=True)
    else:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        loader.load_state_dict(checkpoint["loader"])  # rank 0's counts for all, which step alike
        print(f"rank {rank} goes on in epoch {dataset.epoch}", flush=True)
    parallel = DistributedDataParallel(model)

    step = seen = 0
    for epoch in range(dataset.epoch, epochs):
        dataset.set_epoch(epoch)
        for batch, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(parallel(batch), labels).backward()
            optimizer.step()
            step, seen = step + 1, seen + len(labels)
            if step == steps:
                break
        if step == steps:
            break
    if rank == 0:
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
        checkpoints.save(states, saved)
    dist.barrier()
    print(f"rank {rank} saw {seen}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="s3://bucket/prefix of the folders")
    parser.add_argument("saved", help="s3://bucket/key of the checkpoint")
    parser.add_argument("--classes", nargs="+", default=["cat", "dog"], help="the folders")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop after so many")
    parser.add_argument("--workers", type=int, default=1, help="DataLoader workers of each rank")
    arguments = parser.parse_args()
    dist.init_process_group("gloo")
    try:
        train(**vars(arguments))
    finally:
        dist.destroy_process_group()
