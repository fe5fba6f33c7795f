"""PyTorch datasets of S3 objects: by index, or as a stream that fetches ahead."""

from s3torch.datasets._dataset import identity
from s3torch.datasets._objects import GetDatasetObjects
from s3torch.datasets.s3iterable_dataset import S3IterableDataset
from s3torch.datasets.s3map_dataset import S3MapDataset

__all__ = ["GetDatasetObjects", "S3IterableDataset", "S3MapDataset", "identity"]
