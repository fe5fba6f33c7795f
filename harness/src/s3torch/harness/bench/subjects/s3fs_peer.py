"""s3fs, by its synchronous interface."""

from __future__ import annotations

from typing import Any

import s3fs

from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed

_WRITE = 1024 * 1024


def make_files(task: Task) -> Any:
    """Return the file system."""
    return s3fs.S3FileSystem(
        endpoint_url=task.endpoint,
        client_kwargs={"region_name": task.region, "verify": task.ca_bundle},
        config_kwargs={"s3": {"addressing_style": "path"}, "max_pool_connections": 256},
        skip_instance_cache=True,
    )


def large_get(task: Task) -> Subject:
    """One large object."""
    files = make_files(task)
    return Subject(lambda _: files.cat_file(f"{task.bucket}/{task.keys[0]}"))


def serial(task: Task) -> Subject:
    """Objects one by one."""
    files = make_files(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(files.cat_file(f"{task.bucket}/{key}"))

    return Subject(run)


def many(task: Task) -> Subject:
    """Objects together, ``window`` at once."""
    files = make_files(task)
    paths = [f"{task.bucket}/{key}" for key in task.keys]

    def run(sink: Sink) -> None:
        found = files.cat(paths, batch_size=task.window)
        for path in paths:
            sink(found[path])

    return Subject(run)


def listing(task: Task) -> Subject:
    """Every key under a prefix."""
    files = make_files(task)

    def run(_: Sink) -> list[str]:
        files.invalidate_cache()
        found: list[str] = files.find(f"{task.bucket}/{task.keys[0]}")
        return [path.partition("/")[2] for path in found]

    return Subject(run, parts=listed)


def readinto(task: Task) -> Subject:
    """One large object into memory of the caller's, by a file."""
    files = make_files(task)

    def run(_: Sink) -> Any:
        view, at = memoryview(fresh_map(task.size)), 0
        with files.open(f"{task.bucket}/{task.keys[0]}", "rb") as file:
            while at < task.size:
                at += file.readinto(view[at:])
        return view

    return Subject(run)


def write(task: Task) -> Subject:
    """One object in writes of 1 MiB into a file."""
    files = make_files(task)
    data = memoryview(bytes(task.size))

    def run(_: Sink) -> None:
        with files.open(f"{task.bucket}/{task.keys[0]}", "wb") as file:
            for start in range(0, task.size, _WRITE):
                file.write(data[start : start + _WRITE])

    return Subject(run)
