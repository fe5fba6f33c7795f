"""Shards for the tests of `S3TarDataset`."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from s3torch.datasets.tar import S3TarDataset

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

MIB = 2**20


def tar_of(samples: dict[str, dict[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key, fields in samples.items():
            for extension, data in fields.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def shard_of(number: int, count: int, size: int = 40) -> bytes:
    samples = {}
    for index in range(count):
        key = f"{number:03}/{index:05}"
        samples[key] = {"bin": random.Random(key).randbytes(size + index % 7), "cls": str(index).encode()}
    return tar_of(samples)


def put_shards(place: Place, counts: list[int], size: int = 40) -> None:
    place.fill({f"shards/{number:03}.tar": shard_of(number, count, size) for number, count in enumerate(counts)})


def keys(samples: Iterable[dict[str, Any]]) -> list[str]:
    return [sample["__key__"] for sample in samples]


def every_key(counts: list[int]) -> list[str]:
    return [f"{number:03}/{index:05}" for number, count in enumerate(counts) for index in range(count)]


def make(place: Place, **options: Any) -> S3TarDataset:
    config = options.pop("config", None) or place.config()
    return S3TarDataset.from_prefix("s3://bucket/shards/", region="us-east-1", s3client_config=config, **options)
