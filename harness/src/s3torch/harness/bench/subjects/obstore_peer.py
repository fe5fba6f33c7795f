"""obstore, the Rust object store."""

from __future__ import annotations

import asyncio
from typing import Any

from obstore.store import S3Store

from s3torch.harness.bench.subjects.task import Sink, Subject, Task

_PART = 8 * 1024 * 1024


def _store(task: Task) -> Any:
    return S3Store(
        task.bucket,
        endpoint=task.endpoint,
        region=task.region,
        access_key_id="testing",
        secret_access_key="testing",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def large_get(task: Task) -> Subject:
    """One large object by one request."""
    store = _store(task)
    return Subject(lambda _: memoryview(store.get(task.keys[0]).bytes()))


def large_ranges(task: Task) -> Subject:
    """One large object by ranges of 8 MiB; the pieces stay pieces."""
    store = _store(task)
    starts = list(range(0, task.size, _PART))
    ends = [min(start + _PART, task.size) for start in starts]

    def run(_: Sink) -> list[Any]:
        return list(store.get_ranges(task.keys[0], starts=starts, ends=ends))

    return Subject(run, parts=lambda pieces: [memoryview(piece) for piece in pieces])


def serial(task: Task) -> Subject:
    """Objects one by one."""
    store = _store(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(bytes(store.get(key).bytes()))

    return Subject(run)


def many(task: Task) -> Subject:
    """Objects in order, ``window`` in flight, on asyncio."""
    store = _store(task)
    loop = asyncio.new_event_loop()

    async def fetch(key: str) -> bytes:
        answer = await store.get_async(key)
        return bytes(await answer.bytes_async())

    async def work(sink: Sink) -> None:
        flying: list[asyncio.Task[bytes]] = []
        for key in task.keys:
            flying.append(loop.create_task(fetch(key)))
            if len(flying) == task.window:
                sink(await flying.pop(0))
        for each in flying:
            sink(await each)

    return Subject(lambda sink: loop.run_until_complete(work(sink)))
