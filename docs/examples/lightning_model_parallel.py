"""Train a model that FSDP2 spreads over two processes, each of which saves its shards to S3.

python lightning_model_parallel.py s3://my-bucket/run-7 --epochs 6
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils.data import DataLoader, TensorDataset

from s3torch.lightning import S3LightningCheckpoint, S3ModelCheckpoint, S3ModelParallelStrategy


class Regression(LightningModule):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: torch.nn.Module = torch.nn.Sequential(
            torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)
        )

    def configure_model(self) -> None:
        """Spread the network."""
        if self.device_mesh is not None and not isinstance(self.layers, FSDPModule):
            fully_shard(self.layers, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def make_loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return batches of made-up data."""
    inputs = torch.randn(512, 16, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=8)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="s3://bucket/prefix for the checkpoints")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()

    seed_everything(1)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=S3ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1),
        max_epochs=arguments.epochs,
        logger=False,
        plugins=[S3LightningCheckpoint()],
        callbacks=[S3ModelCheckpoint(arguments.folder, monitor="loss", save_top_k=2, save_last=True)],
    )
    trainer.fit(Regression(), make_loader(), ckpt_path="last")
    print(f"loss after {trainer.current_epoch} epochs: {trainer.callback_metrics['loss']:.9f}")


if __name__ == "__main__":
    main()
