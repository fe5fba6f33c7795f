"""Lightning's Trainer stops in the middle of an epoch, and another one goes on."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.datasets import S3IterableDataset
from s3torch.datasets.loader import S3StatefulDataLoader
from s3torch.readers import S3Reader

pytestmark = [
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="only forks share a store in memory"
    ),
    # StatefulDataLoader 0.11 asks torch for what newer versions no longer like to be asked for.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning"),  # Lightning's own use of torch
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined:UserWarning"),  # and it is exact
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.timeout(200),
]

COUNT = 37


def number_of(reader: S3Reader) -> int:
    return int(reader.read())


class Recorder(LightningModule):
    """Remembers what it was trained with, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[int, list[int]] = {}
        self.validated = 0

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch.tolist())
        loss: torch.Tensor = self.layer(batch[:, None].float()).mean()
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.validated += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class SaveOnce(Callback):
    """Saves after one batch of one epoch, and stops."""

    def __init__(self, path: Path, epoch: int, batch: int) -> None:
        self.path, self.epoch, self.batch = path, epoch, batch

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (self.epoch, self.batch):
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


class SetEpoch(Callback):
    """Gives each epoch an order of its own."""

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        loader = trainer.train_dataloader
        assert isinstance(loader, S3StatefulDataLoader)
        loader.dataset.set_epoch(trainer.current_epoch + 1)


def make_loader(store: MemoryStore, workers: int) -> S3StatefulDataLoader:
    config = S3ClientConfig(engine=lambda context: MemoryEngine(context, store))
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=number_of, s3client_config=config, shuffle=True
    )
    return S3StatefulDataLoader(
        dataset, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None
    )


def fit(loader: S3StatefulDataLoader, folder: Path, *callbacks: Callback, resume: Path | None = None) -> Recorder:
    module = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        callbacks=[SetEpoch(), *callbacks],
    )
    try:
        trainer.fit(module, loader, val_dataloaders=torch.ones(1, 1), ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert callbacks
    return module


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (2, 0), (0, 3)])
def test_a_trainer_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, before: int, after: int) -> None:
    store = MemoryStore()
    store.create_bucket("bucket")
    client = S3Client("us-east-1", s3client_config=S3ClientConfig(engine=lambda context: MemoryEngine(context, store)))
    for index in range(COUNT):
        client.put("bucket", f"{index:03}", str(index).encode())
    path = tmp_path / "middle.ckpt"
    first = fit(make_loader(store, before), tmp_path, SaveOnce(path, epoch=1, batch=3))
    assert len(first.seen[1]) == 16
    second = fit(make_loader(store, after), tmp_path, resume=path)
    assert sorted(first.seen[0]) == list(range(COUNT))
    assert sorted(first.seen[1] + second.seen[1]) == list(range(COUNT))
    assert first.seen[0] != second.seen[2]
    if before == after:
        assert sorted(second.seen[2]) == list(range(COUNT))
        assert second.validated == 2
