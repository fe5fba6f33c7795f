"""One object of a dataset."""

from s3torch.client import S3BucketKeyData

__all__ = ["S3BucketKeyData"]
