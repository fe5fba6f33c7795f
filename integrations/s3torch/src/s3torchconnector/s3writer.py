"""Writing an object."""

from s3torch.writer import S3Writer

__all__ = ["S3Writer"]
