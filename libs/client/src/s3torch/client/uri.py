"""``s3://bucket/key`` strings."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["S3Uri", "parse_s3_uri", "restore_s3_uri"]

_SCHEME = "s3://"


class S3Uri(NamedTuple):
    """A bucket and a key (or key prefix; empty for the bucket itself)."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def parse_s3_uri(uri: str) -> S3Uri:
    """Split an S3 URI into bucket and key, without decoding the key.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/key``. Everything after the first slash is the key, byte for byte:
            slashes, spaces, ``%``, ``?`` and ``#`` have no meaning of their own.

    Returns:
        The bucket and the key; the key is empty where the URI has none.

    Raises:
        TypeError: ``uri`` is not a string.
        ValueError: The scheme is not ``s3`` or the bucket is empty.
    """
    if not isinstance(uri, str):
        raise TypeError(f"an S3 URI must be a str, got {type(uri).__name__}")
    if not uri.startswith(_SCHEME):
        raise ValueError(f"not an S3 URI: {uri!r}; expected s3://bucket/key")
    bucket, _, key = uri[len(_SCHEME) :].partition("/")
    if not bucket:
        raise ValueError(f"S3 URI without a bucket: {uri!r}; expected s3://bucket/key")
    return S3Uri(bucket, key)


def restore_s3_uri(path: str | os.PathLike[str]) -> str:
    """Undo what the path functions of the standard library do to an S3 URI.

    ``os.path.normpath`` and ``pathlib`` collapse the two slashes of ``s3://bucket/key``, and on Windows they turn them.

    Args:
        path: An S3 URI, as a string or as a path, intact or not. Anything else is given back as a string.

    Returns:
        ``s3://bucket/key`` again; a path that is not on S3 unchanged.

    Raises:
        TypeError: It is neither a string nor a path.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str or a path of str, got {type(path).__name__}")
    mangled = re.match(r"s3:([/\\])(?!/)", text)
    if mangled is None:
        return text
    rest = text[mangled.end() :]
    return _SCHEME + (rest.replace("\\", "/") if mangled[1] == "\\" else rest)
