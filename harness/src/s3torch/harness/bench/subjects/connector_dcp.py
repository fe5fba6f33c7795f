"""Distributed checkpoints by ``s3torchconnector.dcp``: the original's in its environment, this project's in ours."""

from __future__ import annotations

import os
from typing import Any

from s3torch.harness.bench.subjects import distributed
from s3torch.harness.bench.subjects.task import Subject, Task
from s3torchconnector import S3ClientConfig
from s3torchconnector.dcp import S3StorageReader, S3StorageWriter

_CONFIG = S3ClientConfig(force_path_style=True)


def _point_to(task: Task) -> None:
    # The original's classes take no endpoint.
    os.environ["AWS_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL_S3"] = task.endpoint


def _writer(task: Task) -> Any:
    return S3StorageWriter(
        task.region,
        f"s3://{task.bucket}/{task.keys[0]}",
        s3client_config=_CONFIG,
        thread_count=task.options.get("thread_count", 1),
        single_file_per_rank=task.options.get("is_one_file", True),
    )


def save(task: Task) -> Subject:
    """``dcp.save`` by ``thread_count`` threads (option; 1 by default)."""
    _point_to(task)
    return distributed.save_with(task, lambda: _writer(task))


def async_save(task: Task) -> Subject:
    """``dcp.async_save``."""
    _point_to(task)
    return distributed.async_save_with(task, lambda: _writer(task))


def load(task: Task) -> Subject:
    """``dcp.load`` of the checkpoint that the option ``made_by`` names."""
    _point_to(task)
    path = f"s3://{task.bucket}/{task.keys[0]}/{task.options['made_by']}"
    return distributed.load_with(task, lambda: S3StorageReader(task.region, path, s3client_config=_CONFIG))
