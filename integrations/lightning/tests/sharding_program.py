"""What two processes do with the strategies, one scenario after the other in the same processes.

Arguments: the URI of a folder in S3, and a local folder in which each process leaves what came of each scenario.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch.strategies
import pytest
import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.utils.data import DataLoader, TensorDataset

from s3torch.client import PutOptions, S3ClientConfig, parse_s3_uri
from s3torch.dcp import S3StorageWriter
from s3torch.dcp.manifest import read_references
from s3torch.lightning import (
    S3AsyncLightningCheckpoint,
    S3FSDPStrategy,
    S3LightningCheckpoint,
    S3ModelCheckpoint,
    S3ModelParallelStrategy,
    fabric,
)

ROOT = sys.argv[1] if __name__ == "__main__" else ""
RANK = int(os.environ.get("RANK", "0"))
TIMEOUT = timedelta(seconds=40)
SCENARIOS: dict[str, Callable[[str, Path], None]] = {}


def scenario(function: Callable[[str, Path], None]) -> Callable[[str, Path], None]:
    SCENARIOS[function.__name__] = function
    return function


class Model(LightningModule):
    def __init__(self, *, is_parallel: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.is_parallel = is_parallel
        self.losses: list[float] = []

    def configure_model(self) -> None:
        if self.is_parallel and not hasattr(self.layer, "set_requires_gradient_sync"):
            assert self.device_mesh is not None
            fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)}


def wrap(model: torch.nn.Module) -> torch.nn.Module:
    # Lightning leaves the device out where it is the CPU, and torch then wants an accelerator.
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)


class CpuFSDP(S3FSDPStrategy):
    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:
        return wrap(model)


class StockCpuFSDP(lightning.pytorch.strategies.FSDPStrategy):
    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:
        return wrap(model)


class FabricCpuFSDP(fabric.S3FSDPStrategy):
    def setup_module(self, module: torch.nn.Module) -> torch.nn.Module:
        return wrap(module)


def fsdp(**options: Any) -> S3FSDPStrategy:
    return CpuFSDP(timeout=TIMEOUT, **options)


def parallel(**options: Any) -> S3ModelParallelStrategy:
    return S3ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, timeout=TIMEOUT, **options)


def train(
    strategy: Any,
    folder: str | None,
    epochs: int,
    *,
    ckpt_path: str | None = None,
    plugin: Any = None,
    save_weights_only: bool = False,
) -> tuple[Model, Trainer]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 6, generator=generator)
    loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)
    model = Model(is_parallel=isinstance(strategy, lightning.pytorch.strategies.ModelParallelStrategy))
    options: dict[str, Any] = {"enable_checkpointing": False}
    if folder is not None:
        callback = S3ModelCheckpoint(folder, save_last=True, save_weights_only=save_weights_only)
        options = {"callbacks": [callback]}
    trainer = Trainer(
        **options,
        plugins=[] if plugin is None else [plugin],
        strategy=strategy,
        accelerator="cpu",
        devices=2,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, ckpt_path=ckpt_path)
    return model, trainer


def keys(folder: str) -> list[str]:
    """List the names below a folder, when all have done what they do."""
    dist.barrier()
    bucket, prefix = parse_s3_uri(folder)
    pages = S3LightningCheckpoint().client.list_objects(bucket, f"{prefix}/")
    return [info.key.removeprefix(f"{prefix}/") for page in pages for info in page.object_info]


def check_resume(make: Callable[[], Any], folder: str, *, is_sharded: bool, plugin: Any = None) -> None:
    whole, _ = train(make(), None, 3)
    first, _ = train(make(), folder, 2, plugin=plugin)
    names = keys(folder)
    assert ("last.ckpt/.metadata" in names) is is_sharded, names
    assert ("last.ckpt" in names) is not is_sharded, names
    second, trainer = train(make(), folder, 3, ckpt_path="last", plugin=plugin)
    assert trainer.ckpt_path == f"{folder}/last.ckpt"
    assert trainer.global_step == 3 * 3
    assert len(second.losses) == 3, "one epoch"
    # On the CPU, torch's FSDP goes another way from the second step after whole tensors were taken or given.
    exact = len(whole.losses) if is_sharded or not isinstance(make(), S3FSDPStrategy) else len(first.losses) + 1
    assert (first.losses + second.losses)[:exact] == pytest.approx(whole.losses[:exact], rel=1e-6)
    check_tidy(f"{folder}/last.ckpt") if is_sharded else None
    best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]  # there is one
    assert {name.split("/")[0] for name in keys(folder)} == {"last.ckpt", best.rsplit("/", 1)[1]}


def check_tidy(checkpoint: str) -> None:
    """Check that the folder holds the one checkpoint and nothing else."""
    bucket, key = parse_s3_uri(checkpoint)
    references = read_references(S3LightningCheckpoint().client.read(bucket, f"{key}/.metadata"))
    assert set(keys(checkpoint)) == {*references, ".metadata", "meta.pt"}


@scenario
def fsdp_sharded_resumes(folder: str, local: Path) -> None:
    check_resume(lambda: fsdp(state_dict_type="sharded"), folder, is_sharded=True)


@scenario
def fsdp_full_resumes(folder: str, local: Path) -> None:
    check_resume(lambda: fsdp(state_dict_type="full"), folder, is_sharded=False)


@scenario
def fsdp_full_resumes_from_asynchronous_saves(folder: str, local: Path) -> None:
    plugin = S3AsyncLightningCheckpoint()
    check_resume(lambda: fsdp(state_dict_type="full"), folder, is_sharded=False, plugin=plugin)


@scenario
def model_parallel_sharded_resumes(folder: str, local: Path) -> None:
    check_resume(parallel, folder, is_sharded=True)


@scenario
def model_parallel_full_resumes(folder: str, local: Path) -> None:
    check_resume(lambda: parallel(save_distributed_checkpoint=False), folder, is_sharded=False)


@scenario
def a_checkpoint_takes_the_place_of_one_of_the_other_form(folder: str, local: Path) -> None:
    _, trainer = train(parallel(), None, 1)
    trainer.save_checkpoint(f"{folder}/a.ckpt")
    _, full = train(parallel(save_distributed_checkpoint=False), None, 2)
    full.save_checkpoint(f"{folder}/a.ckpt")
    assert keys(folder) == ["a.ckpt"]
    _, trainer = train(parallel(), None, 3, ckpt_path=f"{folder}/a.ckpt")
    assert trainer.global_step == 9
    trainer.save_checkpoint(f"{folder}/a.ckpt")
    assert "a.ckpt" not in keys(folder)
    check_tidy(f"{folder}/a.ckpt")


@scenario
def an_interrupted_save_leaves_the_checkpoint_before_it(folder: str, local: Path) -> None:
    class FailingWriter(S3StorageWriter):
        def finish(self, *args: Any, **kwargs: Any) -> None:
            raise KeyError("before the commit")

    class FailingStrategy(S3ModelParallelStrategy):
        def make_storage_writer(self, path: str) -> S3StorageWriter:
            return FailingWriter(None, path)

    path = f"{folder}/a.ckpt"
    _, trainer = train(parallel(), None, 1)
    trainer.save_checkpoint(path)
    failing = FailingStrategy(data_parallel_size=2, tensor_parallel_size=1, timeout=TIMEOUT)
    model, later = train(failing, None, 2)
    with pytest.raises(CheckpointException, match="before the commit"):
        later.save_checkpoint(path)
    assert "meta.pt" not in keys(path), "it would be taken for that of the other save"
    again, trainer = train(parallel(), None, 2, ckpt_path=path)
    assert trainer.global_step == 6
    assert again.losses == model.losses[3:]
    trainer.save_checkpoint(path)
    assert "meta.pt" in keys(path)

    fresh = f"{folder}/b.ckpt"
    with pytest.raises(CheckpointException):
        later.save_checkpoint(fresh)
    with pytest.raises(FileNotFoundError, match=r"b\.ckpt"):
        train(parallel(), None, 2, ckpt_path=fresh)


@scenario
def errors_reach_every_process(folder: str, local: Path) -> None:
    _, trainer = train(fsdp(state_dict_type="sharded"), None, 1)
    with pytest.raises(FileNotFoundError, match="no-such-bucket"):
        trainer.save_checkpoint("s3://no-such-bucket/a.ckpt")
    with pytest.raises(TypeError, match="put_options"):
        trainer.save_checkpoint(f"{folder}/a.ckpt", storage_options={})
    _, full = train(fsdp(), None, 1)
    with pytest.raises(FileNotFoundError, match="no-such-bucket"):
        full.save_checkpoint("s3://no-such-bucket/a.ckpt")
    for make in (fsdp, parallel):
        with pytest.raises(FileNotFoundError, match=r"nothing\.ckpt"):
            train(make(), None, 1, ckpt_path=f"{folder}/nothing.ckpt")


@scenario
def a_checkpoint_of_weights_only_is_told(folder: str, local: Path) -> None:
    for make, name in ((lambda: fsdp(state_dict_type="sharded"), "a"), (parallel, "b"), (fsdp, "c")):
        train(make(), f"{folder}/{name}", 1, save_weights_only=True)
        with pytest.raises(KeyError, match="save_weights_only"):
            train(make(), None, 2, ckpt_path=f"{folder}/{name}/last.ckpt")


@scenario
def local_paths_are_left_to_lightning(folder: str, local: Path) -> None:
    _, trainer = train(parallel(), None, 1)
    trainer.save_checkpoint(local / "a.ckpt")
    assert (local / "a.ckpt" / ".metadata").exists()
    _, trainer = train(parallel(), None, 2, ckpt_path=str(local / "a.ckpt"))
    assert trainer.global_step == 6


@scenario
def lightning_reads_a_folder_that_was_downloaded(folder: str, local: Path) -> None:
    for make, stock in (
        (lambda: fsdp(state_dict_type="sharded"), StockCpuFSDP(state_dict_type="sharded")),
        (parallel, lightning.pytorch.strategies.ModelParallelStrategy(2, 1)),
    ):
        name = type(stock).__name__
        _, trainer = train(make(), None, 2)
        path = f"{folder}/{name}.ckpt"
        trainer.save_checkpoint(path)
        if RANK == 0:
            bucket, key = parse_s3_uri(path)
            client = S3LightningCheckpoint().client
            (local / name).mkdir()
            for page in client.list_objects(bucket, f"{key}/"):
                for info in page.object_info:
                    (local / name / info.key.removeprefix(f"{key}/")).write_bytes(client.read(bucket, info.key))
        dist.barrier()
        again, _ = train(stock, None, 3, ckpt_path=str(local / name))
        ours, _ = train(make(), None, 3, ckpt_path=path)
        assert again.losses == ours.losses


# ------------------------------------------------------------------------------------------------------------- Fabric


def make_fabric(strategy: Any, plugin: Any = None) -> Any:
    plugins = [] if plugin is None else [plugin]
    launched = Fabric(accelerator="cpu", devices=2, strategy=strategy, plugins=plugins)
    launched.launch()
    return launched


def parallelize(model: Any, mesh: Any) -> Any:
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def fabric_fsdp(**options: Any) -> fabric.S3FSDPStrategy:
    return FabricCpuFSDP(timeout=TIMEOUT, **options)


def fabric_parallel(**options: Any) -> fabric.S3ModelParallelStrategy:
    return fabric.S3ModelParallelStrategy(parallelize, 2, 1, timeout=TIMEOUT, **options)


class Counter:
    def __init__(self, value: int) -> None:
        self.value = value

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.value = state["value"]


def make_objects(run: Any) -> tuple[Any, Any]:
    torch.manual_seed(5)
    model = run.setup_module(torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 1)))
    optimizer = run.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=0.02))
    return model, optimizer


def step(run: Any, model: Any, optimizer: Any, count: int) -> list[float]:
    generator = torch.Generator().manual_seed(run.global_rank)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6, generator=generator)).square().mean()
        run.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_fabric(make: Callable[[], Any], folder: str, *, is_sharded: bool) -> None:
    run = make_fabric(make())
    model, optimizer = make_objects(run)
    step(run, model, optimizer, 3)
    state = {"model": model, "optimizer": optimizer, "steps": 3, "counter": Counter(7), "more": [1]}
    run.save(f"{folder}/a.ckpt", state)
    assert (".metadata" in keys(f"{folder}/a.ckpt")) is is_sharded
    expected = step(run, model, optimizer, 2)

    other, other_optimizer = make_objects(run)
    state = {"model": other, "optimizer": other_optimizer, "steps": 0, "counter": Counter(0)}
    rest = run.load(f"{folder}/a.ckpt", state)
    assert rest == {"more": [1]}
    assert (state["steps"], state["counter"].value) == (3, 7)
    exact = 2 if is_sharded or not isinstance(make(), fabric.S3FSDPStrategy) else 1  # as above
    assert step(run, other, other_optimizer, 2)[:exact] == pytest.approx(expected[:exact], rel=1e-6)
    with pytest.raises(KeyError, match="nowhere"):
        run.load(f"{folder}/a.ckpt", {"model": other, "nowhere": 1})
    run.load(f"{folder}/a.ckpt", {"model": other, "nowhere": 1}, strict=False)
    with pytest.raises(FileNotFoundError):
        run.load(f"{folder}/b.ckpt", {"model": other})
    with pytest.raises(ValueError, match="'optimizer': optimizer"):
        run.save(f"{folder}/b.ckpt", {"steps": 1})


@scenario
def fabric_fsdp_sharded(folder: str, local: Path) -> None:
    check_fabric(fabric_fsdp, folder, is_sharded=True)


@scenario
def fabric_fsdp_full(folder: str, local: Path) -> None:
    check_fabric(lambda: fabric_fsdp(state_dict_type="full"), folder, is_sharded=False)


@scenario
def fabric_model_parallel_sharded(folder: str, local: Path) -> None:
    check_fabric(fabric_parallel, folder, is_sharded=True)


@scenario
def fabric_model_parallel_full(folder: str, local: Path) -> None:
    check_fabric(lambda: fabric_parallel(save_distributed_checkpoint=False), folder, is_sharded=False)


@scenario
def fabric_filters_one_object_and_loads_a_model_alone(folder: str, local: Path) -> None:
    config = S3ClientConfig(put_options=PutOptions(metadata={"by": "plugin"}))
    run = make_fabric(fabric_parallel(save_distributed_checkpoint=False), S3LightningCheckpoint(None, config))
    model, optimizer = make_objects(run)
    run.save(f"{folder}/a.ckpt", {"model": model}, filter={"model": lambda key, value: key.startswith("0.")})
    bucket, key = parse_s3_uri(f"{folder}/a.ckpt")
    dist.barrier()
    saved = S3LightningCheckpoint().load_checkpoint(f"{folder}/a.ckpt")["model"]
    assert sorted(saved) == ["0.bias", "0.weight"]
    assert S3LightningCheckpoint().client.head_object(bucket, key).metadata == {"by": "plugin"}
    if RANK == 0:
        S3LightningCheckpoint().save_checkpoint(saved, f"{folder}/alone.ckpt")
    dist.barrier()
    weight = model.module[0].weight
    before = weight.full_tensor().clone()
    step(run, model, optimizer, 1)
    run.load_raw(f"{folder}/alone.ckpt", model, strict=False)
    assert weight.full_tensor().equal(before)
    with pytest.raises(NotImplementedError):
        run.load_raw(f"{folder}/alone.ckpt", optimizer)
    sharding = make_fabric(fabric_parallel())
    spread, _ = make_objects(sharding)
    with pytest.raises(NotImplementedError, match="one object"):
        sharding.save(f"{folder}/b.ckpt", {"model": spread}, filter={"model": lambda key, value: True})


@contextlib.contextmanager
def noting(outcomes: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except (Exception, CheckpointException):  # the latter is none  # noqa: BLE001  # the test shows it
        outcomes[name] = traceback.format_exc()
    else:
        outcomes[name] = ""


def main() -> None:
    warnings.simplefilter("ignore")
    local = Path(sys.argv[2])
    outcomes: dict[str, str] = {}
    wanted = sys.argv[3:] or list(SCENARIOS)
    for name in wanted:
        place = local / name
        place.mkdir(exist_ok=True)
        with noting(outcomes, name):
            SCENARIOS[name](f"{ROOT}/{name}", place)
        (local / f"outcomes-{RANK}.json").write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
