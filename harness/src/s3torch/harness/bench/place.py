"""A server as a scenario sees it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from s3torch.harness.servers._address import REGION, dummy_environment
from s3torch.harness.servers.origin import memory_folder

BUCKET = "bench"
"""The bucket of all objects, on servers that the benchmark starts."""
_PRESIGNED_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects lie, and where the subjects go for them."""

    endpoint: str
    """Where the subjects go."""
    keep_endpoint: str
    """Where uploads are kept; another one if ``endpoint`` drops them or is slow."""
    root: Path | None = None
    """The bucket's folder, where it is one."""
    ca_bundle: str | None = None
    """What to trust."""
    client: Any = None
    """A boto3 S3 client of the store, where the bucket is no folder and one has to sign."""
    bucket: str = BUCKET
    """The bucket."""
    prefix: str = ""
    """What every key begins with; ends with a slash where it is not empty."""
    region: str = REGION
    """The region to sign for."""
    identity: Callable[[], Mapping[str, str]] = dummy_environment
    """Gives the variables by which the subjects get in; called for each that starts."""

    def key(self, name: str) -> str:
        """Return the whole key of an object."""
        return self.prefix + name

    def unsigned_key(self, name: str, *, write: bool = False) -> str:
        """Return what to ask for below the bucket where one cannot sign.

        Args:
            name: The object.
            write: For a PUT and not a GET.
        """
        key = self.key(name)
        if self.client is None:
            return key
        call = "put_object" if write else "get_object"
        url = self.client.generate_presigned_url(call, {"Bucket": self.bucket, "Key": key}, _PRESIGNED_SECONDS)
        return str(url).partition(f"/{self.bucket}/")[2]

    def put(self, path: Path, key: str) -> None:
        """Store a file of a folder within ``scratch``; where it lies there already, do nothing."""
        if self.client is not None:
            self.client.upload_file(str(path), self.bucket, self.key(key))
        elif self.root is not None and path != self.root / key:
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, self.root / key)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a folder for the block, in memory where the platform has such a file system, beside the objects."""
        parent = self.root.parent if self.root else memory_folder()
        with TemporaryDirectory(prefix="s3torch-bench-", dir=parent) as folder:
            yield Path(folder)

    def take(self, key: str, folder: Path) -> Path:
        """Fetch an object, or all those below it, and remove them from the server.

        Args:
            key: The object's key, or a prefix without its slash.
            folder: Where the file or folder goes; it is named like the key.
        """
        target = folder / key
        if self.root is not None:
            shutil.move(self.root / key, target)
            return target
        assert self.client is not None
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key(key)):
            for found in page.get("Contents", []):
                name = found["Key"][len(self.prefix) :]
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                self.client.download_file(self.bucket, found["Key"], str(folder / name))
                self.client.delete_object(Bucket=self.bucket, Key=found["Key"])
        return target
