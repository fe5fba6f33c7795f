"""What lies at the path of a checkpoint, an object or the folder of a sharded one: found, listed, removed, copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from s3torch.client import HeadObjectResult, S3Client, S3Exception, S3NotFoundError, S3Uri

__all__ = [
    "METADATA",
    "Found",
    "Kind",
    "copy",
    "find",
    "find_all",
    "is_sharded",
    "list_folder",
    "remove",
    "remove_folder",
    "remove_keys",
]

METADATA = ".metadata"
"""Name of the object that makes a sharded checkpoint exist."""

Kind = Literal["full", "sharded"]
"""A checkpoint is one object, or a folder of shards."""


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint that exists."""

    uri: str
    """Where."""
    kind: Kind
    """In which form."""
    committed: int
    """When it came to exist, in seconds since 1970."""


def find(client: S3Client, place: S3Uri) -> Found | None:
    """Look whether there is a checkpoint.

    Args:
        client: Where to look.
        place: The object, or the folder.

    Returns:
        The checkpoint; where there are both an object and a folder, the one that was committed last; None without any.
    """
    kinds: tuple[tuple[Kind, str], ...] = (("full", place.key), ("sharded", f"{place.key}/{METADATA}"))
    founds = [
        Found(str(place), kind, head.last_modified)
        for kind, key in kinds
        if (head := _head(client, place.bucket, key)) is not None
    ]
    return max(founds, key=lambda found: found.committed, default=None)


def is_sharded(client: S3Client, place: S3Uri) -> bool:
    """Tell whether there is a sharded checkpoint.

    Args:
        client: Where to look.
        place: The folder.
    """
    return _head(client, place.bucket, f"{place.key}/{METADATA}") is not None


def find_all(client: S3Client, folder: S3Uri) -> Iterator[Found]:
    """List the checkpoints directly below a folder.

    Args:
        client: Where to look.
        folder: The folder.

    Yields:
        Each object and each committed folder.
    """
    prefix = f"{folder.key}/" if folder.key else ""
    for page in client.list_objects(folder.bucket, prefix, "/"):
        for info in page.object_info:
            if info.key != prefix:
                yield Found(str(S3Uri(folder.bucket, info.key)), "full", info.last_modified)
        for nested in page.common_prefixes:
            head = _head(client, folder.bucket, f"{nested}{METADATA}")
            if head is not None:
                yield Found(str(S3Uri(folder.bucket, nested.rstrip("/"))), "sharded", head.last_modified)


def list_folder(client: S3Client, place: S3Uri) -> list[str]:
    """List every key below a folder.

    Args:
        client: Where to look.
        place: The folder.
    """
    return [info.key for page in client.list_objects(place.bucket, f"{place.key}/") for info in page.object_info]


def remove(client: S3Client, place: S3Uri) -> None:
    """Delete a checkpoint; one that is not there is no error.

    Args:
        client: Where it lies.
        place: The object, the folder, or both.

    Raises:
        S3Exception: Something could not be deleted.
    """
    client.delete_object(place.bucket, place.key)
    remove_folder(client, place)


def remove_folder(client: S3Client, place: S3Uri) -> None:
    """Delete the folder of a sharded checkpoint.

    Args:
        client: Where it lies.
        place: The folder.

    Raises:
        S3Exception: Something could not be deleted.
    """
    keys = list_folder(client, place)
    metadata = f"{place.key}/{METADATA}"
    if metadata in keys:  # first, so that a checkpoint that has lost some of its data does not exist
        client.delete_object(place.bucket, metadata)
    remove_keys(client, place.bucket, [key for key in keys if key != metadata])


def remove_keys(client: S3Client, bucket: str, keys: list[str]) -> None:
    """Delete objects.

    Args:
        client: Where they lie.
        bucket: The bucket.
        keys: The keys.

    Raises:
        S3Exception: One of them could not be deleted.
    """
    for error in client.delete_objects(bucket, keys):
        raise S3Exception(
            f"could not delete: {error.message}",
            operation="DeleteObjects",
            bucket=bucket,
            key=error.key,
            code=error.code,
        )


def copy(client: S3Client, source: S3Uri, target: S3Uri) -> None:
    """Copy a checkpoint within the store, in place of what was there.

    Args:
        client: Where both lie.
        source: The object or the folder to copy.
        target: The copy's path.

    Raises:
        S3Exception: The copy failed; the checkpoint that was there still exists.
    """
    found = find(client, source)
    if found is None or found.kind == "full":  # where there is none, the copy says so
        client.copy_object(source.bucket, source.key, target.bucket, target.key)
        remove_folder(client, target)
        return
    before = list_folder(client, target)
    names = [key[len(source.key) + 1 :] for key in list_folder(client, source)]
    names.sort(key=METADATA.__eq__)  # which makes the copy exist, and so comes last
    for name in names:
        client.copy_object(source.bucket, f"{source.key}/{name}", target.bucket, f"{target.key}/{name}")
    copied = {f"{target.key}/{name}" for name in names}
    remove_keys(client, target.bucket, [key for key in before if key not in copied])
    client.delete_object(target.bucket, target.key)


def _head(client: S3Client, bucket: str, key: str) -> HeadObjectResult | None:
    try:
        return client.head_object(bucket, key)
    except S3NotFoundError:
        return None
