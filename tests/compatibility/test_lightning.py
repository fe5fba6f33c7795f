"""`s3torchconnector.lightning`, as code written for the original uses it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import CheckpointIO

import s3torch.lightning
from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torchconnector.lightning import S3LightningCheckpoint
from s3torchconnector.lightning.s3_lightning_checkpoint import S3LightningCheckpoint as FromModule

URI = "s3://bucket/model.ckpt"


@pytest.fixture
def plugin() -> S3LightningCheckpoint:
    store = MemoryStore()
    store.create_bucket("bucket")
    config = S3ClientConfig(engine=lambda context: MemoryEngine(context, store))
    return S3LightningCheckpoint(region="us-east-1", s3client_config=config, endpoint=None)


def test_the_name_is_where_the_original_has_it() -> None:
    assert S3LightningCheckpoint is FromModule is s3torch.lightning.S3LightningCheckpoint
    assert issubclass(S3LightningCheckpoint, CheckpointIO)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("__init__", {"region": None, "s3client_config": None, "endpoint": None}),
        ("save_checkpoint", {"checkpoint": inspect.Parameter.empty, "path": None, "storage_options": None}),
        ("load_checkpoint", {"path": inspect.Parameter.empty, "map_location": None}),
        ("remove_checkpoint", {"path": inspect.Parameter.empty}),
        ("teardown", {}),
    ],
)
def test_calls_mean_what_they_mean_to_the_original(method: str, parameters: dict[str, Any]) -> None:
    ours = list(inspect.signature(getattr(S3LightningCheckpoint, method)).parameters.values())[1:]
    assert [parameter.name for parameter in ours[: len(parameters)]] == list(parameters)
    assert all(parameter.default is not inspect.Parameter.empty for parameter in ours[len(parameters) :])


def test_calls_of_the_original_work(plugin: S3LightningCheckpoint) -> None:
    plugin.save_checkpoint({"weight": torch.arange(3)}, URI)
    assert plugin.load_checkpoint(URI)["weight"].equal(torch.arange(3))
    assert plugin.load_checkpoint(URI, torch.device("cpu"))["weight"].equal(torch.arange(3))
    plugin.remove_checkpoint(URI)
    plugin.teardown()
    with pytest.raises(FileNotFoundError):
        plugin.load_checkpoint(URI)


@pytest.mark.parametrize("path", [Path("model.ckpt"), None, 3])
def test_other_paths_than_strings_are_a_type_error(plugin: S3LightningCheckpoint, path: Any) -> None:
    for call in (lambda: plugin.save_checkpoint({}, path), lambda: plugin.load_checkpoint(path)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        plugin.remove_checkpoint(path)


@pytest.mark.parametrize("module", ["s3torchconnector.lightning", "s3torch.lightning"])
def test_without_lightning_importing_fails_as_importing_lightning_does(module: str) -> None:
    program = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lightning":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
try:
    import {module}
except ModuleNotFoundError as error:
    print(error.name.split(".")[0])
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=True)
    assert finished.stdout == "lightning\n", finished.stderr
