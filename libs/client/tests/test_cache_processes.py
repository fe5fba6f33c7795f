"""Many processes on one directory, and killed at any moment: what is read is right, and the bound holds."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from s3torch.client import CacheConfig, GetInfo, GetRequest, S3Client, S3ClientConfig
from s3torch.client.cache import DiskCache
from s3torch.client.cache._entry import Version
from s3torch.harness.servers import MotoServer

MIB = 1024 * 1024
KEYS = 60
LIMIT = 3 * MIB
DEADLINE_S = 60.0


def contents(key: int) -> bytes:
    return random.Random(key).randbytes(1000 + 2999 * key)


def work(directory: str, seed: int, count: int) -> None:
    """Read keys at random, from the cache or as if from a store; fail at the first wrong byte."""
    cache = DiskCache(CacheConfig(directory, LIMIT, min_free_bytes=0), chance=0.5)
    source = random.Random(seed)
    for _ in range(count):
        key = source.randrange(KEYS)
        data = contents(key)
        version = Version("s", "b", str(key), '"e"')
        start = source.choice([None, source.randrange(len(data))])
        end = None if start is None else source.randrange(start, len(data)) + 1
        first, last = start or 0, len(data) if end is None else end
        found = cache.find(version, start, end, len(data))
        if found is None:
            cache.store(version, GetInfo(first, last - first, len(data), '"e"'), data[first:last])
            continue
        memory = bytearray(last - first)
        found.read_into(memoryview(memory))  # raises if it is damaged: with rename it never is
        found.close()
        cache.note_hit(len(memory), is_revalidated=False)
        assert memory == data[first:last]
        assert found.info.size == len(data)
    cache.close()


def left_behind(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("drafts/*") if path.is_file()]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_many_processes_share_a_directory(tmp_path: Path, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    work(str(tmp_path), 0, 100)  # used before a fork, too
    workers = [context.Process(target=work, args=(str(tmp_path), seed, 150)) for seed in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    try:
        assert [worker.exitcode for worker in workers] == [0] * len(workers)
    finally:
        for worker in workers:
            worker.kill()
    cache = DiskCache(CacheConfig(str(tmp_path), LIMIT, min_free_bytes=0))
    assert 2 * MIB < cache.used() <= LIMIT + 5 * (LIMIT // 64 + 200_000)  # what each has not told, and one entry
    shared = cache.shared_stats()
    assert shared.damaged == 0
    assert shared.hits > 200
    assert shared.hits + shared.misses == 700
    assert left_behind(tmp_path) == []


def test_killed_at_any_moment_it_stays_right(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    source = random.Random(0)
    for seed in range(12):
        workers = [context.Process(target=work, args=(str(tmp_path), 100 + 2 * seed + n, 10**6)) for n in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(source.uniform(0.01, 0.12))
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            worker.join(DEADLINE_S)
            assert worker.exitcode == -signal.SIGKILL  # none had found a wrong byte
    work(str(tmp_path), 1, 500)
    cache = DiskCache(CacheConfig(str(tmp_path), LIMIT, min_free_bytes=0))
    assert cache.used() <= LIMIT + 12 * 2 * (LIMIT // 64 + 200_000)  # each of the dead may have had so much to tell
    damaged = cache.shared_stats().damaged
    assert damaged == 0


def test_a_process_stopped_at_the_ledger_holds_nobody_up(tmp_path: Path) -> None:
    cache = DiskCache(CacheConfig(str(tmp_path), LIMIT, min_free_bytes=0))
    with cache._room._ledger.writing() as writing:
        assert writing is not None
        started = time.monotonic()
        work(str(tmp_path), 3, 200)
        assert time.monotonic() - started < DEADLINE_S / 2
    assert cache.used() <= LIMIT + 400_000


def read_keys(client: S3Client, bucket: str, keys: int, end: float) -> None:
    source = random.Random(os.getpid())
    while time.monotonic() < end:
        key = source.randrange(keys)
        versions = {bytes([number]) * 50_000 for number in range(3)}
        request = [GetRequest(bucket, f"{key}")] * 3
        for result in client.get_many(request):
            assert bytes(result.data) in versions


def test_workers_read_through_one_directory_while_objects_change(
    moto_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_key)
    bucket = moto_server.create_bucket("cached-workers")
    server = moto_server.boto3_client()
    for key in range(4):
        server.put_object(Bucket=bucket, Key=str(key), Body=bytes(50_000))
    config = S3ClientConfig(cache=CacheConfig(str(tmp_path), min_free_bytes=0))
    client = S3Client(moto_server.region, endpoint=moto_server.endpoint, s3client_config=config)
    client.read(bucket, "0")
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + 2
    workers = [context.Process(target=read_keys, args=(client, bucket, 4, end)) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        number = 0
        while time.monotonic() < end - 0.3:
            number += 1
            body = bytes([number % 3]) * 50_000
            server.put_object(Bucket=bucket, Key=str(number % 4), Body=body)
            assert client.read(bucket, str(number % 4)) == body  # never an older one
        for worker in workers:
            worker.join(DEADLINE_S)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    finally:
        for worker in workers:
            worker.kill()
        client.close()
