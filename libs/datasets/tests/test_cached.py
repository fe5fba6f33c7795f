"""With a cache, the second epoch of every dataset asks the store for nothing."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import DataLoader

from s3torch.client import CacheConfig
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.datasets.tar import S3TarDataset
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

MIB = 2**20


def read(reader: S3Reader) -> bytes:
    return bytes(reader.read())


def read_sample(sample: dict[str, Any]) -> bytes:
    return bytes(sample["bin"])


def make_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(40):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 30_000
            tar.addfile(member, io.BytesIO(bytes([number]) * 30_000))
    return file.getvalue()


@pytest.fixture
def contents(memory: Place) -> list[bytes]:
    """Small objects, an empty one and one of several parts."""
    contents = [b"", *(bytes([n]) * (n * 1000) for n in range(1, 20)), b"large" * (3 * MIB)]
    memory.fill({f"o/{number:02}": data for number, data in enumerate(contents)})
    memory.fill({"t/0.tar": make_tar()})
    return contents


@pytest.mark.parametrize("kind", ["iterable", "map", "tar", "workers"])
def test_the_second_epoch_asks_for_nothing(memory: Place, contents: list[bytes], tmp_path: Path, kind: str) -> None:
    cache = CacheConfig(tmp_path, min_free_bytes=0)
    options: Any = {
        "region": "us-east-1",
        "s3client_config": replace(memory.config(part_size=5 * MIB), cache=cache),
        "transform": read_sample if kind == "tar" else read,
    }

    def epoch() -> list[bytes]:
        if kind == "tar":
            return list(S3TarDataset.from_prefix("s3://bucket/t/", **options))
        if kind == "iterable":
            return list(S3IterableDataset.from_prefix("s3://bucket/o/", **options))
        by_index = S3MapDataset.from_prefix("s3://bucket/o/", **options)
        if kind == "map":
            batches = list(DataLoader(by_index, batch_size=4, collate_fn=list))
            return [sample for batch in batches for sample in batch]
        return list(DataLoader(by_index, batch_size=None, num_workers=1, multiprocessing_context="fork"))

    expected = [bytes([number]) * 30_000 for number in range(40)] if kind == "tar" else contents
    assert epoch() == expected
    memory.engines.clear()
    memory.events.clear()
    assert epoch() == expected
    assert [event for event in memory.events if event.startswith("get")] == []
