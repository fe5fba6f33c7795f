"""The options of `S3TarDataset`, as one type: its ways to be made share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from s3torch.client import S3ClientConfig
from s3torch.datasets._on_error import OnError
from s3torch.datasets._share import Uneven

__all__ = ["TarOptions"]


class TarOptions(TypedDict, total=False):
    """Keyword arguments of `S3TarDataset`, which says what they mean."""

    region: str | None
    endpoint: str | None
    transform: Callable[[dict[str, Any]], Any] | None
    s3client_config: S3ClientConfig | None
    shuffle: bool
    seed: int
    shuffle_buffer: int
    shuffle_shards: int
    uneven: Uneven
    samples: int | None
    on_error: OnError
    progress: bool
    shard: tuple[int, int] | None
    views: bool
