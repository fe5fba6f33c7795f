"""Any sequence of writes and reads through caches, with damage in between, is that of a dictionary."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from libs.client.tests.like_windows import like_windows

from s3torch.client import CacheConfig, GetRequest, ObjectChangedError, ObjectNotFoundError, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore

MIB = 1024 * 1024
KEYS = st.sampled_from(["a", "b", "a\nb", "ä/b c"])
SIZES = st.sampled_from([0, 1, 100, 4096, 262_143, 262_144, 262_145, 400_000])


class Cached(RuleBasedStateMachine):
    """Two clients of one directory, one store, and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="cache-model-"))
        endpoint = f"memory://{uuid.uuid4().hex}"
        self.store = MemoryStore.named(endpoint)
        self.store.create_bucket("b")
        cache = [CacheConfig(str(self.directory), size * MIB, min_free_bytes=0) for size in (1, 2)]
        self.clients = [
            S3Client(endpoint=endpoint, s3client_config=S3ClientConfig(engine="memory", cache=config))
            for config in cache
        ]
        self.objects: dict[str, bytes] = {}
        self.old: dict[str, tuple[str, bytes]] = {}

    def teardown(self) -> None:
        self.store.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    @rule(key=KEYS, size=SIZES, seed=st.integers(0, 3), past=st.booleans())
    def write(self, key: str, size: int, seed: int, past: bool) -> None:
        data = random.Random(seed).randbytes(size)
        if key in self.objects:
            self.old[key] = (self.store.find("b", key).etag, self.objects[key])
        if past:
            self.store.write("b", key, data, S3ClientConfig().put_options)
        else:
            self.clients[0].put("b", key, data)
        self.objects[key] = data

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.clients[1].delete_object("b", key)
        self.objects.pop(key, None)

    @rule(key=KEYS, client=st.integers(0, 1))
    def read(self, key: str, client: int) -> None:
        try:
            data = self.clients[client].read("b", key)
        except ObjectNotFoundError:
            assert key not in self.objects
        else:
            assert data == self.objects[key]

    @rule(key=KEYS, client=st.integers(0, 1), span=st.tuples(st.integers(0, 2**19), st.integers(1, 2**19)))
    def read_range(self, key: str, client: int, span: tuple[int, int]) -> None:
        data = self.objects.get(key)
        if not data:
            return
        start = span[0] % len(data)
        end = start + span[1]
        info = self.clients[client].head_object("b", key)
        pinned = GetRequest("b", key, start, end, info.etag, info.size)
        for request in (pinned, GetRequest("b", key, start, end), GetRequest("b", key, -1 - start)):
            result = self.clients[client].engine.start_get(request).result()
            expected = data[start:end] if request.start == start else data[-1 - start :]
            assert result.data == expected
            assert (result.info.size, result.info.etag) == (len(data), info.etag)

    @rule(key=KEYS, client=st.integers(0, 1))
    def read_old(self, key: str, client: int) -> None:
        if key in self.old:
            etag, data = self.old[key]
            try:
                result = self.clients[client].engine.start_get(GetRequest("b", key, etag=etag)).result()
            except (ObjectChangedError, ObjectNotFoundError):
                return  # it is not there any more, which is as good
            assert result.data == data

    @rule(seed=st.integers(0, 2**16))
    def damage(self, seed: int) -> None:
        source = random.Random(seed)
        entries = sorted(path for path in self.directory.rglob("entries/*/*") if path.is_file())
        if not entries:
            return
        path = source.choice(entries)
        data = bytearray(path.read_bytes())
        how = source.choice(["flip", "cut", "remove", "swap"])
        if how == "flip" and data:
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        elif how == "cut":
            del data[source.randrange(len(data) + 1) :]
        elif how == "swap":
            data = bytearray(source.choice(entries).read_bytes())
        else:
            path.unlink()
            return
        path.write_bytes(data)

    @rule()
    def damage_ledger(self) -> None:
        for path in self.directory.rglob("ledger"):
            path.write_bytes(b"rubbish")

    @invariant()
    def is_bounded(self) -> None:
        cache = self.clients[1].cache
        assert cache is not None
        assert cache.used() <= 2 * MIB + 700_000


class CachedLikeWindows(Cached):
    """The same with files as Windows has them."""

    def __init__(self) -> None:
        self.system = like_windows()
        self.system.__enter__()
        super().__init__()

    def teardown(self) -> None:
        self.system.__exit__(None, None, None)
        super().teardown()


TestCached = Cached.TestCase
TestCached.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCachedLikeWindows = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")(
    CachedLikeWindows.TestCase
)
TestCachedLikeWindows.settings = TestCached.settings
