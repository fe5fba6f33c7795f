"""Distributed checkpoints by torch alone, in a folder: no network, and memory for a disk."""

from __future__ import annotations

from pathlib import Path

import torch.distributed.checkpoint as dcp

from s3torch.harness.bench.subjects import distributed
from s3torch.harness.bench.subjects.state import make_state
from s3torch.harness.bench.subjects.task import Subject, Task


def _folder(task: Task) -> Path:
    return Path(task.options["scratch"], "stock")


def _writer(task: Task) -> dcp.FileSystemWriter:
    return dcp.FileSystemWriter(_folder(task), single_file_per_rank=task.options["is_one_file"], sync_files=False)


def save(task: Task) -> Subject:
    """``dcp.save``."""
    return distributed.save_with(task, lambda: _writer(task))


def async_save(task: Task) -> Subject:
    """``dcp.async_save``."""
    return distributed.async_save_with(task, lambda: _writer(task))


def load(task: Task) -> Subject:
    """``dcp.load`` of what it saves first."""
    dcp.save(make_state(task.options["tensors"], task.options["tensor_size"]), storage_writer=_writer(task))
    return distributed.load_with(task, lambda: dcp.FileSystemReader(_folder(task)))
