"""``torch.save`` and ``torch.load`` of a file that s3fs opens."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from s3torch.harness.bench.subjects.s3fs_peer import make_files
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task


def save(task: Task) -> Subject:
    """``torch.save`` into the file."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    files = make_files(task)

    def run(_: Sink) -> None:
        with files.open(f"{task.bucket}/{task.keys[0]}", "wb") as file:
            torch.save(state, file)

    return Subject(run, state=partial(memory_of, state))


def load(task: Task) -> Subject:
    """``torch.load`` from the file."""
    files = make_files(task)

    def run(_: Sink) -> Any:
        with files.open(f"{task.bucket}/{task.keys[0]}", "rb") as file:
            return torch.load(file, weights_only=True)

    return Subject(run, parts=buffers)
