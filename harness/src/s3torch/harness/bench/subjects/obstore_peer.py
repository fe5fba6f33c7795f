"""obstore, the Rust object store."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from obstore.store import S3Store

from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed

_PART = 8 * 1024 * 1024


def make_store(task: Task) -> Any:
    """Return the bucket as a store."""
    token = os.environ.get("AWS_SESSION_TOKEN")
    return S3Store(
        task.bucket,
        endpoint=task.endpoint,
        region=task.region,
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        **({"session_token": token} if token else {}),
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def large_get(task: Task) -> Subject:
    """One large object by one request."""
    store = make_store(task)
    return Subject(lambda _: memoryview(store.get(task.keys[0]).bytes()))


def large_ranges(task: Task) -> Subject:
    """One large object by ranges of 8 MiB; the pieces stay pieces."""
    store = make_store(task)
    starts = list(range(0, task.size, _PART))
    ends = [min(start + _PART, task.size) for start in starts]

    def run(_: Sink) -> list[Any]:
        return list(store.get_ranges(task.keys[0], starts=starts, ends=ends))

    return Subject(run, parts=lambda pieces: [memoryview(piece) for piece in pieces])


def serial(task: Task) -> Subject:
    """Objects one by one."""
    store = make_store(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(bytes(store.get(key).bytes()))

    return Subject(run)


def many(task: Task) -> Subject:
    """Objects in order, ``window`` in flight, on asyncio."""
    store = make_store(task)
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


def listing(task: Task) -> Subject:
    """Every key under a prefix."""
    store = make_store(task)

    def run(_: Sink) -> list[str]:
        return [each["path"] for chunk in store.list(task.keys[0].rstrip("/"), chunk_size=1000) for each in chunk]

    return Subject(run, parts=listed)


def write(task: Task) -> Subject:
    """One object at once, in parts where it is large."""
    store = make_store(task)
    data = bytes(task.size)

    def run(_: Sink) -> None:
        store.put(task.keys[0], data)

    return Subject(run)
