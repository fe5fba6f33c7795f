"""s3fs, by its synchronous interface."""

from __future__ import annotations

from typing import Any

import s3fs

from s3torch.harness.bench.subjects.task import Sink, Subject, Task


def _file_system(task: Task) -> Any:
    return s3fs.S3FileSystem(
        endpoint_url=task.endpoint,
        client_kwargs={"region_name": task.region, "verify": task.ca_bundle},
        config_kwargs={"s3": {"addressing_style": "path"}, "max_pool_connections": 256},
        skip_instance_cache=True,
    )


def large_get(task: Task) -> Subject:
    """One large object."""
    files = _file_system(task)
    return Subject(lambda _: files.cat_file(f"{task.bucket}/{task.keys[0]}"))


def serial(task: Task) -> Subject:
    """Objects one by one."""
    files = _file_system(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(files.cat_file(f"{task.bucket}/{key}"))

    return Subject(run)


def many(task: Task) -> Subject:
    """Objects together, ``window`` at once."""
    files = _file_system(task)
    paths = [f"{task.bucket}/{key}" for key in task.keys]

    def run(sink: Sink) -> None:
        found = files.cat(paths, batch_size=task.window)
        for path in paths:
            sink(found[path])

    return Subject(run)
