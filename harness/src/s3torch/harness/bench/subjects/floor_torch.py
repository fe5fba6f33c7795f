"""The floor of ``torch.save`` and ``torch.load``: the tensors' memory straight to and from plain sockets."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import torch

from s3torch.harness.bench.subjects.distributed import make_target, take_buffers
from s3torch.harness.bench.subjects.floor_http import LargeGet
from s3torch.harness.bench.subjects.sockets import alive, check_put, connect, put_request
from s3torch.harness.bench.subjects.state import buffers, make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task

_LARGE = 256 * 1024


class _PutFile:
    """A file that is the body of one PUT: large writes go to the socket as they are, small ones together."""

    def __init__(self, connection: socket.socket, head: bytes) -> None:
        self._socket = connection
        self._small = bytearray(head)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if view.nbytes < _LARGE:
            self._small += view
        else:
            self.flush()
            self._socket.sendall(view)
        return view.nbytes

    def flush(self) -> None:
        if self._small:
            self._socket.sendall(self._small)
            self._small.clear()


class _CountingFile:
    """Knows afterwards how long the file would be."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        """There is nothing to flush."""


def save(task: Task) -> Subject:
    """``torch.save`` into one PUT whose length is known beforehand."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    counting = _CountingFile()
    torch.save(state, counting)  # type: ignore[arg-type]  # write and flush are all that it calls
    head = put_request(task, counting.size)
    connection = connect(task.endpoint)

    def run(_: Sink) -> None:
        nonlocal connection
        connection = alive(connection, task.endpoint)
        file = _PutFile(connection, head)
        torch.save(state, file)  # type: ignore[arg-type]  # write and flush are all that it calls
        file.flush()
        check_put(connection)

    return Subject(run, state=partial(memory_of, state))


def copy(task: Task) -> Subject:
    """A copy of the state into memory that is there: what saving in the background cannot do without."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    copies = {name: tensor.clone() for name, tensor in state.items()}

    def run(_: Sink) -> None:
        for name, tensor in state.items():
            copies[name].copy_(tensor)

    return Subject(run, state=lambda: memory_of(state) + memory_of(copies))


def load(task: Task) -> Subject:
    """Each tensor's bytes, whose offsets are known, into fresh tensors, on several connections."""
    offsets: list[int] = task.options["offsets"]
    size: int = task.options["tensor_size"]
    getter = LargeGet(task, task.options.get("connections", 8))

    def run(_: Sink) -> dict[str, torch.Tensor]:
        state = {f"layer.{index}.weight": torch.empty(size // 4) for index in range(len(offsets))}
        views = buffers(state)
        getter.fill_places(
            [(task.keys[0], at, at + size, view) for at, view in zip(offsets, views, strict=True)],
        )
        return state

    return Subject(run, parts=buffers)


def load_checkpoint(task: Task) -> Subject:
    """Each tensor's bytes, whose files and offsets are known, into tensors that are there, on several connections."""
    places: list[tuple[str, int]] = task.options["places"]
    size: int = task.options["tensor_size"]
    getter = LargeGet(task, task.options.get("connections", 8))
    state = make_target(task)

    def run(_: Sink) -> dict[str, torch.Tensor]:
        views = zip(places, memory_of(state), strict=True)
        getter.fill_places([(key, at, at + size, view) for (key, at), view in views])
        return state

    return Subject(run, parts=take_buffers, state=partial(memory_of, state))
