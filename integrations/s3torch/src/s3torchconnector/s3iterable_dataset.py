"""Objects one after the other."""

from s3torch.datasets import S3IterableDataset, identity

__all__ = ["S3IterableDataset", "identity"]
