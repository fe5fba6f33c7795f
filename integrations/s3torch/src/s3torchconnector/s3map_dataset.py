"""Objects by index."""

from s3torch.datasets import S3MapDataset, identity

__all__ = ["S3MapDataset", "identity"]
