"""s3transfer, the transfer manager under boto3's uploads and downloads: file objects in memory."""

from __future__ import annotations

import io
from typing import Any

from s3transfer.manager import TransferManager

from s3torch.harness.bench.subjects.boto3_peer import make_client
from s3torch.harness.bench.subjects.task import Sink, Subject, Task


def download(task: Task) -> Subject:
    """One large object into a file object."""
    client = make_client(task)

    def run(_: Sink) -> Any:
        file = io.BytesIO()
        with TransferManager(client) as manager:
            manager.download(task.bucket, task.keys[0], file).result()
        return file.getbuffer()

    return Subject(run)


def write(task: Task) -> Subject:
    """One object from a file object."""
    client = make_client(task)
    data = bytes(task.size)

    def run(_: Sink) -> None:
        with TransferManager(client) as manager:
            manager.upload(io.BytesIO(data), task.bucket, task.keys[0]).result()

    return Subject(run)
