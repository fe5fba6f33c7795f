"""Distributed checkpoints of one process, whoever stores them: ``dcp.save``, ``dcp.async_save``, ``dcp.load``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from s3torch.harness.bench.subjects.state import make_state, memory_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task


def save_with(task: Task, make_writer: Callable[[], Any]) -> Subject:
    """Save the task's state, each time through a new writer."""
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    return Subject(
        lambda _: dcp.save(state, storage_writer=make_writer()), parts=lambda _: [], state=partial(memory_of, state)
    )


def async_save_with(task: Task, make_writer: Callable[[], Any]) -> Subject:
    """Save the task's state in the background; what counts is the time until training could go on.

    That is when the call has returned and, where it promises so for later, the state has been copied. All saves go
    through one writer, as a training loop's do, unless the option ``new_writers`` is set.
    """
    state = make_state(task.options["tensors"], task.options["tensor_size"])
    kept = None if task.options.get("new_writers", False) else make_writer()

    def run(_: Sink) -> tuple[float, float]:
        start, cpu = time.perf_counter(), time.thread_time()
        answer: Any = dcp.async_save(state, storage_writer=kept or make_writer())
        staging = getattr(answer, "staging_completion", None)
        if staging is not None:
            staging.result()
        seconds, cpu = time.perf_counter() - start, time.thread_time() - cpu
        getattr(answer, "upload_completion", answer).result()
        return seconds, cpu

    return Subject(run, parts=lambda _: [], own_time=lambda found: found, state=partial(memory_of, state))


def make_target(task: Task) -> dict[str, torch.Tensor]:
    """Return the tensors to load into, in memory that has been used before, as a model's has."""
    elements = task.options["tensor_size"] // 4
    return {f"layer.{number}.weight": torch.empty(elements).fill_(0) for number in task.options["chosen"]}


def take_buffers(state: dict[str, torch.Tensor]) -> Iterator[memoryview]:
    """Give each tensor's memory and then clear it, so that the next run cannot be right by what it finds there."""
    for tensor in state.values():
        yield tensor.numpy().data.cast("B")
        tensor.zero_()


def load_with(task: Task, make_reader: Callable[[], Any]) -> Subject:
    """Load the task's tensors into memory that is there, each time through a new reader."""
    state = make_target(task)

    def run(_: Sink) -> dict[str, torch.Tensor]:
        dcp.load(state, storage_reader=make_reader())
        return state

    return Subject(run, parts=take_buffers, state=partial(memory_of, state))
