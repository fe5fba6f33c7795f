"""Writers from clients."""

from __future__ import annotations

from dataclasses import replace

from s3torch.client import PutOptions, S3Client
from s3torch.writer.s3writer import S3Writer

__all__ = ["WriterClient", "open_writer"]


def open_writer(
    client: S3Client,
    bucket: str,
    key: str,
    *,
    storage_class: str | None = None,
    options: PutOptions | None = None,
) -> S3Writer:
    """Open an object for writing; sends nothing yet.

    Args:
        client: Whose connections, options and credentials to use.
        bucket: The bucket.
        key: The key.
        storage_class: Storage class, such as ``STANDARD_IA``; None is that of ``options``.
        options: Storage class, metadata and so on; None is the client's.

    Returns:
        The writer. The object exists once it is closed.

    Raises:
        ValueError: Bucket or key is empty.
        TypeError: Bucket or key is not a string.
    """
    if storage_class is not None:
        options = client.s3client_config.put_options if options is None else options
        options = replace(options, storage_class=storage_class)
    return S3Writer(client.put_stream(bucket, key, options=options))


class WriterClient(S3Client):
    """An `S3Client` that opens writers."""

    def put_object(self, bucket: str, key: str, storage_class: str | None = None) -> S3Writer:
        """Open an object for writing; sends nothing yet.

        Args:
            bucket: The bucket.
            key: The key.
            storage_class: Storage class, such as ``STANDARD_IA``; None is the client's.

        Returns:
            The writer. The object exists once it is closed.
        """
        return open_writer(self, bucket, key, storage_class=storage_class)
