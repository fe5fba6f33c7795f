"""A server as a scenario sees it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from s3torch.harness.servers import MotoServer
from s3torch.harness.servers.origin import memory_folder

BUCKET = "bench"
"""The bucket of all objects."""


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
    moto: MotoServer | None = None
    """The server, if it is moto."""

    def put(self, path: Path, key: str) -> None:
        """Store a file of a folder within ``scratch``; where it lies there already, do nothing."""
        if self.moto is not None:
            with path.open("rb") as file:
                self.moto.boto3_client().put_object(Bucket=BUCKET, Key=key, Body=file)
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
        assert self.moto is not None
        client = self.moto.boto3_client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=key):
            for found in page.get("Contents", []):
                name = found["Key"]
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                client.download_file(BUCKET, name, str(folder / name))
                client.delete_object(Bucket=BUCKET, Key=name)
        return target
