"""``torch.save`` into a file that obstore opens, and ``torch.load`` of what it has fetched."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import obstore
import torch

from s3torch.harness.bench.subjects.obstore_peer import make_store
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task


class _Copying:
    """Copies what is written: obstore's file keeps it without a copy, and torch's memory is gone after the call."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        self._file.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def save(task: Task) -> Subject:
    """``torch.save`` into the file."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    store = make_store(task)

    def run(_: Sink) -> None:
        with obstore.open_writer(store, task.keys[0]) as file:
            copying: Any = _Copying(file)
            torch.save(state, copying)

    return Subject(run, state=partial(memory_of, state))


def load(task: Task) -> Subject:
    """One GET into memory, then ``torch.load``: what its files return is not ``bytes``, which torch wants."""
    store = make_store(task)

    def run(_: Sink) -> Any:
        return torch.load(io.BytesIO(store.get(task.keys[0]).bytes()), weights_only=True)

    return Subject(run, parts=buffers)
