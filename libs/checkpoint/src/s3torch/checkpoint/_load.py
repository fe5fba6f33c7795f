"""`torch.load` from S3, with all storages filled at once where that is sound, and one after the other elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import IO, Any, TypeAlias, cast

import torch

from s3torch.checkpoint._archive import Archive, read_archive
from s3torch.checkpoint._deferred import DeferredFile, SurpriseError
from s3torch.checkpoint._globals import reads_no_tensor
from s3torch.client import GetObjectStream, GetRequest, S3Client
from s3torch.client.scatter import read_scattered
from s3torch.readers import open_reader

__all__ = ["MapLocation", "load"]

MapLocation: TypeAlias = "Callable[[Any, str], Any] | torch.device | str | dict[str, str] | None"
"""What `torch.load` takes as ``map_location``."""


def load(
    client: S3Client, bucket: str, key: str, *, map_location: MapLocation = None, weights_only: bool = True
) -> Any:
    """Load what `torch.save` has written.

    Args:
        client: Where to read.
        bucket: The bucket.
        key: The key.
        map_location: As for `torch.load`.
        weights_only: As for `torch.load`.

    Returns:
        The object.
    """
    with client.get(bucket, key) as stream:
        if (map_location is None or _is_cpu(map_location)) and _makes_plain_tensors():
            archive = read_archive(stream)
            if archive is not None and _can_defer(archive):
                try:
                    return _load_deferred(client, stream, archive, map_location, weights_only)
                except SurpriseError:
                    pass  # a torch that reads otherwise than those we know: the plain way below is right with any
    with open_reader(client, bucket, key) as reader:
        return torch.load(cast("IO[bytes]", reader), map_location=map_location, weights_only=weights_only)


def _load_deferred(
    client: S3Client, stream: GetObjectStream, archive: Archive, map_location: MapLocation, weights_only: bool
) -> Any:
    request = GetRequest(stream.bucket, stream.key, etag=stream.etag, size=stream.size)

    def fill(pieces: Iterable[tuple[int, memoryview]]) -> None:
        read_scattered(client.engine, client.s3client_config, request, pieces)

    file = DeferredFile(stream, archive, fill)
    restore: Any = file.map_location if map_location is None else file.map_to_cpu
    try:
        loaded = torch.load(cast("IO[bytes]", file), map_location=restore, weights_only=weights_only)
    except BaseException:
        if file.error is not None:
            raise file.error from None
        raise
    file.fill()
    return loaded


def _can_defer(archive: Archive) -> bool:
    # Storages of the other byte order are swapped as soon as they are read.
    return archive.byteorder == sys.byteorder and reads_no_tensor(archive.pickle)


def _makes_plain_tensors() -> bool:
    """Whether new tensors are what they seem: under a mode such as FakeTensorMode they are not."""
    return type(torch.empty(0)) is torch.Tensor


def _is_cpu(map_location: MapLocation) -> bool:
    if isinstance(map_location, str):
        return map_location == "cpu"
    return isinstance(map_location, torch.device) and map_location == torch.device("cpu")
