"""Which paths of Lightning are objects in S3."""

from __future__ import annotations

import os

from s3torch.client import S3Uri, parse_s3_uri, restore_s3_uri

__all__ = ["is_s3_path", "parse_checkpoint_path", "parse_dirpath"]


def is_s3_path(path: object) -> bool:
    """Tell whether a path is on S3, also where `pathlib` or `os.path` has made ``s3:/bucket/key`` of it.

    Args:
        path: Whatever Lightning was given.
    """
    return isinstance(path, (str, os.PathLike)) and restore_s3_uri(path).startswith("s3://")


def parse_checkpoint_path(path: str) -> S3Uri:
    """Read the path of a checkpoint, a single object or a folder.

    Args:
        path: ``s3://bucket/key``, with or without a slash at its end.

    Returns:
        Its bucket and its key, without a slash at the end.

    Raises:
        TypeError: It is not a string.
        ValueError: It is not on S3, or names no key.
    """
    if not isinstance(path, str):
        raise TypeError(
            f"the path of a checkpoint must be a str such as 's3://bucket/key', got {type(path).__name__}: {path!r}."
            " Where Lightning makes a pathlib.Path of it, use S3FSDPStrategy or S3ModelParallelStrategy"
        )
    bucket, key = parse_s3_uri(restore_s3_uri(path))
    key = key.rstrip("/")
    if not key:
        raise ValueError(f"S3 URI without a key: {path!r}; expected s3://bucket/key")
    return S3Uri(bucket, key)


def parse_dirpath(dirpath: str | os.PathLike[str]) -> S3Uri:
    """Read the path of a folder of checkpoints.

    Args:
        dirpath: ``s3://bucket/prefix`` or ``s3://bucket``, with or without a slash at its end.

    Returns:
        Its bucket and its prefix, without a slash at the end.

    Raises:
        TypeError: It is neither a string nor a path.
        ValueError: It is not on S3.
    """
    try:
        bucket, key = parse_s3_uri(restore_s3_uri(dirpath))
    except ValueError as error:
        raise ValueError(
            f"not a folder in S3: {os.fspath(dirpath)!r}; expected dirpath='s3://bucket/prefix'. For a local folder use"
            " Lightning's own ModelCheckpoint"
        ) from error
    return S3Uri(bucket, key.rstrip("/"))
