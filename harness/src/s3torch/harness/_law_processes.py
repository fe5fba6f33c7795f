"""What the laws have other processes do: apart from the suites, which take seconds to import wherever one starts."""

from __future__ import annotations

import os
import traceback
from multiprocessing.connection import Connection
from typing import Any

from s3torch.client import GetRequest, S3Client

__all__ = ["read_and_send", "read_in_process", "read_sample"]


def read_sample(reader: Any) -> tuple[str, bytes]:
    """Make a sample of an object's reader."""
    return reader.key, bytes(reader.read())


def read_in_process(reader: Any) -> tuple[str, bytes, int]:
    """Make a sample that also tells which process made it."""
    return (*read_sample(reader), os.getpid())


def read_and_send(client: S3Client, bucket: str, key: str, sender: Connection) -> None:
    """Read an object with a client that came from another process, and send what was read, or what went wrong.

    Args:
        client: The client.
        bucket: The bucket.
        key: The key.
        sender: Where to send it; closed afterwards.
    """
    try:
        found: object = client.read(bucket, key)
        many = [bytes(result.data) for result in client.get_many([GetRequest(bucket, key)] * 3)]
        if many != [found] * 3:
            found = "get_many gave other bytes than read"
    except BaseException:  # noqa: BLE001  # shown in the parent's assertion
        found = traceback.format_exc()
    sender.send(found)
    sender.close()
