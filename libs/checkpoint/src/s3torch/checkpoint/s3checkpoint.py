"""`S3Checkpoint`: torch objects in S3."""

from __future__ import annotations

from contextlib import nullcontext
from typing import IO, Any, cast

import torch

from s3torch.checkpoint._load import MapLocation, load
from s3torch.checkpoint.archive_crc import without_archive_crc
from s3torch.client import S3Client, S3ClientConfig, S3Uri, UserAgent, parse_s3_uri
from s3torch.readers import S3Reader, open_reader
from s3torch.writer import S3Writer, open_writer

__all__ = ["S3Checkpoint"]


class S3Checkpoint:
    """Saves torch objects to S3 and loads them.

    Args:
        region: Region of the buckets, such as ``us-east-1``; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        s3client_config: Options of the client; None gives the defaults.
    """

    def __init__(
        self,
        region: str | None = None,
        endpoint: str | None = None,
        s3client_config: S3ClientConfig | None = None,
    ) -> None:
        self.region = region
        self.endpoint = endpoint
        self._client = S3Client(
            region,
            endpoint=endpoint,
            user_agent=UserAgent(["md/checkpoint"]),
            s3client_config=s3client_config,
        )

    def reader(self, s3_uri: str) -> S3Reader:
        """Open an object for reading, for instance by `torch.load`.

        Args:
            s3_uri: ``s3://bucket/key``.

        Returns:
            The reader, a binary file; it has sent nothing yet.

        Raises:
            TypeError: The URI is not a string.
            ValueError: It is not of that form.
        """
        bucket, key = _parse(s3_uri)
        return open_reader(self._client, bucket, key)

    def writer(self, s3_uri: str) -> S3Writer:
        """Open an object for writing, for instance by `torch.save`.

        Args:
            s3_uri: ``s3://bucket/key``.

        Returns:
            The writer, a binary file; the object is visible, whole, once it is closed.

        Raises:
            TypeError: The URI is not a string.
            ValueError: It is not of that form.
        """
        bucket, key = _parse(s3_uri)
        return open_writer(self._client, bucket, key)

    def save(self, obj: object, s3_uri: str) -> None:
        """Save an object with `torch.save`; an object that was there before is replaced at the end, at once.

        The store checks what it receives against the upload's checksums. The archive's own CRC-32, which takes torch
        longer than the upload and which nothing checks on loading, is left out then, where torch can do so (from 2.7).

        Args:
            obj: What to save.
            s3_uri: ``s3://bucket/key``.

        Raises:
            S3Exception: Writing failed; nothing has become visible, and no parts remain.
            TypeError: The URI is not a string.
            ValueError: It is not of that form.
        """
        has_checksums = self._client.s3client_config.checksum != "none"
        with self.writer(s3_uri) as writer, without_archive_crc() if has_checksums else nullcontext():
            torch.save(obj, cast("IO[bytes]", writer))

    def load(self, s3_uri: str, map_location: MapLocation = None, weights_only: bool = True) -> Any:
        """Load what `torch.save` has written, with many tensors on their way at once.

        All storages that stay on the CPU are filled in parallel, straight from the network, once torch has rebuilt the
        tensors around them. Where something could look at a tensor's bytes before (classes other than those of plain
        checkpoints, sparse or quantized tensors, a ``map_location`` of your own, another byte order, the old format),
        each storage is filled when torch asks for it, large ones still in parallel parts.

        Args:
            s3_uri: ``s3://bucket/key``.
            map_location: Where storages go, as for `torch.load`.
            weights_only: Unpickle only tensors and plain values. False runs whatever code the object names: only for
                objects from a source you trust.

        Returns:
            What was saved.

        Raises:
            S3Exception: Reading failed.
            TypeError: The URI is not a string.
            ValueError: It is not of that form.
        """
        bucket, key = _parse(s3_uri)
        return load(self._client, bucket, key, map_location=map_location, weights_only=weights_only)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(region={self.region!r}, endpoint={self.endpoint!r})"


def _parse(uri: str) -> S3Uri:
    parsed = parse_s3_uri(uri)
    if not parsed.key:
        raise ValueError(f"S3 URI without a key: {uri!r}; expected s3://bucket/key")
    return parsed
