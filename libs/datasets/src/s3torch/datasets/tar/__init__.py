"""Tar shards laid out by WebDataset's convention, streamed: their samples, shuffled and resumable."""

from s3torch.datasets.tar.errors import TarError
from s3torch.datasets.tar.s3tar_dataset import S3TarDataset

__all__ = ["S3TarDataset", "TarError"]
