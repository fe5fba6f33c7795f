"""A file-like writer of S3 objects: what is written goes from memory to the socket, and is visible once complete."""

from s3torch.writer.client import WriterClient, open_writer
from s3torch.writer.s3writer import S3Writer, WritableStream

__all__ = ["S3Writer", "WritableStream", "WriterClient", "open_writer"]
