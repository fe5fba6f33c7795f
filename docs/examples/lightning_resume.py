"""Train with checkpoints in S3; started again, go on from the last one.

    python lightning_resume.py s3://my-bucket/run-7 --epochs 6

Kill it whenever you like, and start it again.
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from s3torch.lightning import S3LightningCheckpoint, S3ModelCheckpoint


class Regression(LightningModule):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
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
        max_epochs=arguments.epochs,
        logger=False,
        plugins=[S3LightningCheckpoint()],
        callbacks=[S3ModelCheckpoint(arguments.folder, monitor="loss", save_top_k=2, save_last=True)],
    )
    trainer.fit(Regression(), make_loader(), ckpt_path="last")
    print(f"loss after {trainer.current_epoch} epochs: {trainer.callback_metrics['loss']:.9f}")


if __name__ == "__main__":
    main()
