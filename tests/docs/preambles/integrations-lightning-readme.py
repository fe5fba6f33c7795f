"""A small model and its data, and none of Lightning's advice for larger ones."""

import warnings

import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


loader = DataLoader(TensorDataset(torch.ones(8, 4)), batch_size=4)
