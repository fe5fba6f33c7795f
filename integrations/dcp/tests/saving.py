"""What the tests of saving share."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from s3torch.client import S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.dcp import S3StorageWriter

BUCKET = "bucket"
FOLDER = "runs/step 1"
URI = f"s3://{BUCKET}/{FOLDER}"
MIB = 1024**2


class Place:
    """A store in memory, and writers that write into it."""

    def __init__(self) -> None:
        self.endpoint = f"memory://{uuid.uuid4()}"
        self.store = MemoryStore.named(self.endpoint)
        self.store.create_bucket(BUCKET)

    def config(self, **options: Any) -> S3ClientConfig:
        return S3ClientConfig(**{"engine": "memory", "part_size": 5 * MIB, **options})

    def writer(self, uri: str | None = URI, *, engine: Any = "memory", **options: Any) -> S3StorageWriter:
        return S3StorageWriter("us-east-1", uri, self.config(engine=engine), endpoint=self.endpoint, **options)

    def names(self, folder: str = FOLDER) -> list[str]:
        """Return the names of a folder's objects."""
        return sorted(key.removeprefix(f"{folder}/") for key in self.store.objects(BUCKET) if key.startswith(folder))

    def download(self, folder: Path, checkpoint: str = FOLDER) -> Path:
        """Copy the store into a folder; return where a checkpoint lies."""
        for key, found in self.store.objects(BUCKET).items():
            file = folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(found.data)
        return folder / checkpoint


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch warns of where there is no process group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(state: dict[str, Any], writer: Any, **options: Any) -> Any:
    """Save without a process group; raises what the rank has raised."""
    with quiet():
        try:
            return dcp.save(state, storage_writer=writer, **options)
        except dcp.api.CheckpointException as error:
            raise error.failures[0][0] from error


def load_stock(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Load with torch's own reader, into tensors of zeros."""
    target = {name: _emptied(value) for name, value in state.items()}
    with quiet():
        dcp.load(target, storage_reader=dcp.FileSystemReader(folder))
    return target


def _emptied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {name: _emptied(each) for name, each in value.items()}
    return value


def assert_same(loaded: Any, saved: Any) -> None:
    """Compare what was loaded with what was saved, bit by bit."""
    if isinstance(saved, torch.Tensor):
        assert loaded.shape == saved.shape
        assert loaded.dtype == saved.dtype
        left, right = (each.detach().resolve_conj().resolve_neg().contiguous().reshape(-1) for each in (loaded, saved))
        assert torch.equal(left.view(torch.uint8), right.view(torch.uint8))
    elif isinstance(saved, dict):
        assert loaded.keys() == saved.keys()
        for name in saved:
            assert_same(loaded[name], saved[name])
    else:
        assert loaded == saved


def small_state(seed: int = 0) -> dict[str, Any]:
    """Return a little of everything."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(64, 33, generator=generator),
        "bias": torch.randn(33, generator=generator).to(torch.bfloat16),
        "steps": torch.tensor(seed),
        "empty": torch.empty(0, 3),
        "nested": {"flag": torch.tensor([True, False]), "lr": 0.1},
        "epoch": seed,
    }


def all_tensors() -> dict[str, torch.Tensor]:
    """Return tensors of every type and layout that torch's writer takes."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(40, 50, generator=generator)
    types = [
        *(torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
    ]
    tensors = {f"type {dtype}": (base * 10).to(dtype) for dtype in types}
    return tensors | {
        "transposed": base.t(),
        "columns": base[:, 3:9],
        "rows": base[5:9],
        "one row": base[7],
        "every other": base[::2],
        "expanded": base[0].expand(6, 50),
        "permuted": torch.randn(3, 4, 5, generator=generator).permute(2, 0, 1),
        "channels last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last),
        "conjugate": torch.randn(7, dtype=torch.complex64, generator=generator).conj(),
        "negative": torch.randn(7, dtype=torch.complex64, generator=generator).conj().imag,
        "parameter": torch.nn.Parameter(torch.randn(5, generator=generator)),
        "parameter's rows": torch.nn.Parameter(base.clone())[3:7],
        "scalar": torch.tensor(3.5),
        "scalar of many": base[3, 4],
        "none": torch.empty(0),
        "no rows": torch.empty(0, 7),
        "none of many": base[:0],
        "large": torch.randn(3 * MIB // 2, generator=generator),
        "large rows": torch.randn(8, MIB // 4, generator=generator)[2:7],
    }
