"""How a suite arranges what the subject finds, and looks at what it left: by a client of the suite's own."""

from __future__ import annotations

import random
import uuid
from typing import Any, Protocol

from s3torch.client import PutOptions, S3Client
from s3torch.client.memory import MemoryStore

__all__ = ["Arrangement", "Boto3Arrangement", "Connect", "MemoryArrangement", "make_bytes"]


def make_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that look random and are the same in every run.

    Args:
        size: How many.
        seed: Others for another seed.
    """
    return random.Random(f"{size}-{seed}").randbytes(size)


class Arrangement(Protocol):
    """What a suite does to a store behind its subject's back."""

    def create_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        ...

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Make an object, or replace it."""
        ...

    def get(self, bucket: str, key: str) -> bytes | None:
        """Return an object's bytes, or None where there is no such object."""
        ...

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object."""
        ...

    def keys(self, bucket: str) -> set[str]:
        """Return the keys of a bucket of at most 1,000 objects."""
        ...

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of the multipart uploads that are neither completed nor aborted."""
        ...

    def close(self) -> None:
        """End all connections."""
        ...


class Connect(Protocol):
    """How a suite makes clients of its subject."""

    def __call__(self, *, endpoint: str | None = None, **options: Any) -> S3Client:
        """Make a client.

        Args:
            endpoint: Another endpoint than that of the store under test.
            **options: Fields of `S3ClientConfig` that differ from what the suite's user chose.
        """
        ...


class MemoryArrangement:
    """Arranges in a `MemoryStore`.

    Args:
        store: The store.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def create_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        return self._store.create_bucket(f"law-{uuid.uuid4().hex}")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Make an object, or replace it."""
        self._store.write(bucket, key, data, PutOptions())

    def get(self, bucket: str, key: str) -> bytes | None:
        """Return an object's bytes, or None where there is no such object."""
        found = self._store.objects(bucket).get(key)
        return None if found is None else found.data

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._store.remove(bucket, [key])

    def keys(self, bucket: str) -> set[str]:
        """Return the keys of a bucket."""
        return set(self._store.objects(bucket))

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of the unfinished uploads."""
        return sorted(self._store.uploads(bucket).values())

    def close(self) -> None:
        """Do nothing: there are no connections."""


class Boto3Arrangement:
    """Arranges through a boto3 client.

    Args:
        client: A boto3 S3 client of the store.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def create_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"law-{uuid.uuid4().hex}"
        self._client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Make an object, or replace it."""
        self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, bucket: str, key: str) -> bytes | None:
        """Return an object's bytes, or None where there is no such object."""
        try:
            return bytes(self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except self._client.exceptions.NoSuchKey:
            return None

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=bucket, Key=key)

    def keys(self, bucket: str) -> set[str]:
        """Return the keys of a bucket of at most 1,000 objects."""
        return {item["Key"] for item in self._client.list_objects_v2(Bucket=bucket).get("Contents", ())}

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of the unfinished uploads."""
        return sorted(item["Key"] for item in self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))

    def close(self) -> None:
        """End all connections."""
        self._client.close()
