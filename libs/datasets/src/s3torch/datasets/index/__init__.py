"""What a dataset holds: an index of its objects, listed in parallel or read from a manifest."""

from s3torch.datasets.index.broadcast import broadcast_index
from s3torch.datasets.index.listing import list_index
from s3torch.datasets.index.manifest import load_manifest
from s3torch.datasets.index.s3index import S3Index

__all__ = ["S3Index", "broadcast_index", "list_index", "load_manifest"]
