"""The client with the verbs of readers and writers."""

from s3torch.readers import ReaderClient
from s3torch.writer import WriterClient

__all__ = ["S3Client"]


class S3Client(ReaderClient, WriterClient):
    """S3's verbs, with ``get_object`` to read and ``put_object`` to write an object as a file."""
