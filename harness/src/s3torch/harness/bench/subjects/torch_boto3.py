"""``torch.save`` and ``torch.load`` through boto3 and a buffer, as those do who have no connector."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import torch

from s3torch.harness.bench.subjects.boto3_peer import make_client
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task


def save(task: Task) -> Subject:
    """``torch.save`` into memory, then an upload by the transfer manager."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    client = make_client(task)

    def run(_: Sink) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        client.upload_fileobj(file, task.bucket, task.keys[0])

    return Subject(run, state=partial(memory_of, state))


def load(task: Task) -> Subject:
    """A download into memory, then ``torch.load``."""
    client = make_client(task)

    def run(_: Sink) -> Any:
        body = client.get_object(Bucket=task.bucket, Key=task.keys[0])["Body"].read()
        return torch.load(io.BytesIO(body), weights_only=True)

    return Subject(run, parts=buffers)
