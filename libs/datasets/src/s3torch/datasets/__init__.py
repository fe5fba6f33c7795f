"""PyTorch datasets of S3 objects: by index, or as a stream that fetches ahead."""

from s3torch.datasets._dataset import identity
from s3torch.datasets._objects import GetDatasetObjects
from s3torch.datasets._on_error import OnError
from s3torch.datasets._share import Uneven
from s3torch.datasets.index import S3Index, broadcast_index, list_index, load_manifest
from s3torch.datasets.mixture import S3MixtureDataset
from s3torch.datasets.resume import merge_states, state_after
from s3torch.datasets.s3iterable_dataset import S3IterableDataset
from s3torch.datasets.s3map_dataset import S3MapDataset
from s3torch.datasets.stats import DatasetStats, ProcessStats, SkippedObject
from s3torch.datasets.tar import S3TarDataset, TarError

__all__ = [
    "DatasetStats",
    "GetDatasetObjects",
    "OnError",
    "ProcessStats",
    "S3Index",
    "S3IterableDataset",
    "S3MapDataset",
    "S3MixtureDataset",
    "S3TarDataset",
    "SkippedObject",
    "TarError",
    "Uneven",
    "broadcast_index",
    "identity",
    "list_index",
    "load_manifest",
    "merge_states",
    "state_after",
]
