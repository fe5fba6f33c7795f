"""The keyword arguments of datasets, as types: constructors say what they mean, the other makers pass them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from s3torch.client import S3ClientConfig
from s3torch.datasets._on_error import OnError
from s3torch.datasets._share import Uneven
from s3torch.readers import S3Reader, S3ReaderConstructorProtocol

__all__ = ["EpochOptions", "IndexedEpochOptions", "IndexedOptions", "ListedEpochOptions", "SampleOptions"]


class SampleOptions(TypedDict, total=False):
    """How samples are made."""

    on_error: OnError
    transform_workers: int
    progress: bool


class EpochOptions(SampleOptions, total=False):
    """Likewise, and how epochs visit them."""

    shuffle: bool
    seed: int
    uneven: Uneven
    shard: tuple[int, int] | None


class ListedEpochOptions(EpochOptions, total=False):
    """Likewise, of objects that may be listed at first."""

    index: bool


class _IndexedOptions(TypedDict, total=False):
    endpoint: str | None
    transform: Callable[[S3Reader], Any]
    s3client_config: S3ClientConfig | None
    reader_constructor: S3ReaderConstructorProtocol | None
    label: str | None


class IndexedOptions(SampleOptions, _IndexedOptions, total=False):
    """How samples are made of the objects of an index."""


class IndexedEpochOptions(EpochOptions, _IndexedOptions, total=False):
    """Likewise, and how epochs visit them."""
