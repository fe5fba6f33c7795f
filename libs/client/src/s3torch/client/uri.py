"""``s3://bucket/key`` strings."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["S3Uri", "parse_s3_uri"]

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
