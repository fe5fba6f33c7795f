"""The folder of a checkpoint in S3."""

from __future__ import annotations

import os
from dataclasses import dataclass

from s3torch.client import parse_s3_uri, restore_s3_uri

__all__ = ["METADATA", "Folder", "InFolder", "is_folder", "parse_folder"]

METADATA = ".metadata"
"""Name of the object that makes a checkpoint exist."""


@dataclass(frozen=True, slots=True)
class Folder:
    """All keys that begin alike, up to a slash."""

    bucket: str
    """The bucket."""
    prefix: str
    """What the keys begin with: empty for the bucket itself, else with a slash at its end."""

    def key(self, name: str) -> str:
        """Return the key of an object in the folder.

        Args:
            name: The object's name, relative to the folder.
        """
        return self.prefix + name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_folder(path: str | os.PathLike[str]) -> Folder:
    """Read the path of a checkpoint.

    Args:
        path: ``s3://bucket/prefix``, with or without a slash at its end; one that `pathlib` or `os.path` has made
            ``s3:/bucket/prefix`` of is recognised.

    Returns:
        The folder.

    Raises:
        TypeError: It is neither a string nor a path.
        ValueError: It is not on S3, or names no bucket.
    """
    try:
        bucket, key = parse_s3_uri(restore_s3_uri(path))
    except ValueError as error:
        raise ValueError(
            f"not a folder in S3: {os.fspath(path)!r}; expected s3://bucket/prefix. For a local folder use torch's own"
            " FileSystemReader and FileSystemWriter"
        ) from error
    key = key.rstrip("/")
    return Folder(bucket, f"{key}/" if key else "")


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether something is the path of a folder in S3.

    Args:
        path: The path.
    """
    try:
        parse_folder(path)
    except (TypeError, ValueError):
        return False
    return True


class InFolder:
    """What torch asks of a reader or a writer about its place."""

    _folder: Folder

    @property
    def path(self) -> str:
        """The folder, as ``s3://bucket/prefix``."""
        return str(self._folder)

    @property
    def checkpoint_id(self) -> str:
        """The folder, as ``s3://bucket/prefix``."""
        return str(self._folder)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell whether this can name a folder on S3.

        Args:
            checkpoint_id: A path.
        """
        return is_folder(checkpoint_id)
