"""The cache before an engine: what it answers, what it asks, what it never does."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from libs.client.tests.like_windows import like_windows

from s3torch.client import (
    CacheConfig,
    EngineContext,
    GetInfo,
    GetRequest,
    GetResult,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    S3Client,
    S3ClientConfig,
)
from s3torch.client.cache import CachingEngine, DiskCache, cache_for
from s3torch.client.cache._entry import BLOCK, DamagedError, Version
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Into
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.servers import MotoServer

MIB = 1024 * 1024
ENDPOINT = "memory://cached"


@dataclass
class Bench:
    """A store in memory behind a cache, and the requests that reach it."""

    directory: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    requests: list[GetRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store.create_bucket("b")

    def engine(self, context: EngineContext) -> MemoryEngine:
        return _Recording(context, self.store, self.requests)

    def connect(self, **options: object) -> S3Client:
        cache = CacheConfig(str(self.directory), min_free_bytes=0, **options)  # type: ignore[arg-type]  # any option
        return S3Client(endpoint=ENDPOINT, s3client_config=S3ClientConfig(engine=self.engine, cache=cache))

    def put(self, key: str, data: bytes) -> str:
        """Write past the cache; return the ETag."""
        self.requests.clear()
        client = S3Client(endpoint=ENDPOINT, s3client_config=S3ClientConfig(engine=self.engine))
        return client.put("b", key, data).etag

    def asked(self) -> list[GetRequest]:
        """Return what reached the store since last asked."""
        asked = self.requests[:]
        self.requests.clear()
        return asked

    def entries(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("entries/*/*") if path.is_file())


class _Recording(MemoryEngine):
    def __init__(self, context: EngineContext, store: MemoryStore, requests: list[GetRequest]) -> None:
        super().__init__(context, store)
        self.requests = requests

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        self.requests.append(request)
        return super().start_get(request, into)


only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev")


@pytest.fixture(params=["here", pytest.param("like Windows", marks=only_linux)], autouse=True)
def system(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have every test run with this system's files, and with such as Windows has."""
    if request.param == "here":
        yield request.param
    else:
        with like_windows():
            yield request.param


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


def get(client: S3Client, etag: str | None, start: int | None = None, end: int | None = None) -> bytes:
    return bytes(client.engine.start_get(GetRequest("b", "k", start, end, etag)).result().data)


@pytest.mark.parametrize("length", [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_a_version_is_read_from_the_store_once(bench: Bench, length: int) -> None:
    data = random.Random(length).randbytes(length)
    etag = bench.put("k", data)
    assert get(bench.connect(), etag) == data
    assert len(bench.asked()) == 1
    client = bench.connect()  # another one: nothing is kept in memory
    assert get(client, etag) == data
    assert get(client, etag) == data
    assert bench.asked() == []


def test_ranges_come_from_whatever_holds_them(bench: Bench) -> None:
    data = random.Random(1).randbytes(4 * BLOCK + 100)
    etag = bench.put("k", data)
    client = bench.connect()
    for start in range(0, len(data), BLOCK + 3):
        assert get(client, etag, start, start + BLOCK + 3) == data[start : start + BLOCK + 3]
    bench.asked()
    source = random.Random(2)
    for _ in range(200):
        start = source.randrange(len(data))
        end = source.randrange(start + 1, len(data) + 1)
        assert get(client, etag, start, end) == data[start:end]
    assert bench.asked() == []
    request = GetRequest("b", "k", -10, None, etag, len(data))
    assert client.engine.start_get(request).result() == GetResult(
        request, data[-10:], GetInfo(len(data) - 10, 10, len(data), etag)
    )
    assert get(client, etag, -10) == data[-10:]  # its size is not known, and nothing whole is there to tell it
    assert len(bench.asked()) == 1
    assert get(client, etag) == data
    assert get(client, etag, -10) == data[-10:]
    assert len(bench.asked()) == 1


def test_ranges_of_a_whole_object_come_from_it(bench: Bench) -> None:
    data = random.Random(1).randbytes(2 * BLOCK + 100)
    etag = bench.put("k", data)
    client = bench.connect()
    get(client, etag)
    bench.asked()
    for start, end in ((0, 10), (BLOCK, 2 * BLOCK), (5, BLOCK + 5), (2 * BLOCK, 9 * BLOCK), (BLOCK, None), (-7, None)):
        assert get(client, etag, start, end) == data[start:end]
    assert bench.asked() == []


def test_bytes_go_straight_into_the_callers_memory(bench: Bench) -> None:
    data = random.Random(3).randbytes(BLOCK + 9)
    etag = bench.put("k", data)
    client = bench.connect()
    get(client, etag)
    memory = bytearray(len(data))
    request = GetRequest("b", "k", None, None, etag)
    result = client.engine.start_get(request, memoryview(memory)).result()
    assert bytes(memory) == data
    assert isinstance(result.data, memoryview)
    assert result.data.obj is memory
    seen: list[GetInfo] = []

    def choose(info: GetInfo) -> memoryview:
        seen.append(info)
        return memoryview(memory)[: info.length]

    memory[:] = bytes(len(data))
    client.engine.start_get(request, choose).result()
    assert seen == [GetInfo(0, len(data), len(data), etag)]
    assert bytes(memory) == data
    with pytest.raises(InvalidRangeError):
        client.engine.start_get(request, memoryview(bytearray(len(data) + 1))).result()
    assert len(bench.asked()) == 1


def test_what_does_not_fit_the_request_is_left_to_the_store(bench: Bench) -> None:
    etag = bench.put("k", b"0123456789")
    client = bench.connect()
    get(client, etag)
    with pytest.raises(InvalidRangeError):
        get(client, etag, 10, 20)
    with pytest.raises(ObjectChangedError):
        client.engine.start_get(GetRequest("b", "k", None, None, etag, 11)).result()
    with pytest.raises(ObjectChangedError):
        get(client, '"another"')
    assert get(client, etag) == b"0123456789"


def test_an_old_version_that_is_named_is_still_there_when_the_object_has_changed(bench: Bench) -> None:
    old = bench.put("k", b"old")
    client = bench.connect()
    get(client, old)
    new = bench.put("k", b"new")
    assert (get(client, old), get(client, new)) == (b"old", b"new")
    assert [request.etag for request in bench.asked()] == [new]


def test_a_request_that_names_no_version_asks_whether_it_is_still_the_same(bench: Bench) -> None:
    etag = bench.put("k", b"first")
    client = bench.connect()
    assert client.read("b", "k") == b"first"
    assert [request.if_none_match for request in bench.asked()] == [None]
    assert client.read("b", "k") == b"first"
    assert [request.if_none_match for request in bench.asked()] == [etag]
    bench.put("k", b"second!")
    assert client.read("b", "k") == b"second!"
    assert [request.if_none_match for request in bench.asked()] == [etag]
    bench.store.remove("b", ["k"])
    with pytest.raises(ObjectNotFoundError):
        client.read("b", "k")
    assert client.cache is not None
    stats = client.cache.stats()
    assert (stats.hits, stats.revalidated, stats.misses) == (1, 1, 2)


def test_a_request_with_a_condition_of_its_own_goes_through(bench: Bench) -> None:
    etag = bench.put("k", b"data")
    client = bench.connect()
    get(client, etag)
    with pytest.raises(PreconditionFailedError) as caught:
        client.engine.start_get(GetRequest("b", "k", if_none_match=etag)).result()
    assert caught.value.status == 304
    assert client.engine.start_get(GetRequest("b", "k", if_none_match='"other"')).result().data == b"data"


def test_streams_and_large_reads_use_it(bench: Bench) -> None:
    data = random.Random(4).randbytes(20 * MIB + 5)
    bench.put("k", data)
    client = bench.connect()
    assert client.read("b", "k") == data
    first = bench.asked()
    assert client.read("b", "k") == data
    again = bench.asked()
    assert len(first) > 2
    assert [request.if_none_match is not None for request in again] == [True]  # the first part alone asks
    info = client.head_object("b", "k")
    memory = bytearray(len(data))
    client.read_into("b", "k", memory, object_info=info)
    with client.get("b", "k", object_info=info) as stream:
        assert stream.read(1000) == data[:1000]
        stream.seek(12_345_678)
        assert stream.read(3 * MIB) == data[12_345_678 : 12_345_678 + 3 * MIB]
    assert memory == data
    assert bench.asked() == []


def test_get_many_delivers_hits_and_misses_in_order(bench: Bench) -> None:
    client = bench.connect()
    etags = [bench.put(f"k{number}", bytes([number]) * number) for number in range(40)]
    requests = [GetRequest("b", f"k{number}", None, None, etag) for number, etag in enumerate(etags)]
    list(client.get_many(requests[::3]))
    bench.asked()
    assert [result.data for result in client.get_many(requests)] == [bytes([n]) * n for n in range(40)]
    assert len(bench.asked()) == 40 - 14


@pytest.mark.parametrize("kind", ["flip", "cut", "grow", "empty", "other"])
def test_a_damaged_entry_is_fetched_again_and_replaced(bench: Bench, kind: str) -> None:
    data = random.Random(5).randbytes(BLOCK + 1000)
    etag = bench.put("k", data)
    client = bench.connect()
    get(client, etag)
    [path] = bench.entries()
    whole = path.read_bytes()
    source = random.Random(6)
    # One byte of the data, of the checksums and the name, of the tail, and some anywhere.
    places = [
        0,
        BLOCK,
        len(data) + 1,
        len(data) + 10,
        len(whole) - 1,
        *(source.randrange(len(whole)) for _ in range(30)),
    ]
    for place in places if kind == "flip" else [100, len(data), len(whole) - 1]:
        spoiled = {
            "flip": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
            "cut": whole[:place],
            "grow": whole + bytes(place),
            "empty": b"",
            "other": whole.replace(b"\nk", b"\nq"),
        }[kind]
        path.write_bytes(spoiled)
        bench.asked()
        memory = bytearray(len(data))
        asked: list[GetInfo] = []

        def choose(info: GetInfo, memory: bytearray = memory, asked: list[GetInfo] = asked) -> memoryview:
            asked.append(info)
            return memoryview(memory)

        client.engine.start_get(GetRequest("b", "k", None, None, etag), choose).result()
        assert memory == data
        assert len(asked) == 1
        assert len(bench.asked()) == 1
        assert path.read_bytes() == whole
    assert client.cache is not None
    assert client.cache.stats().damaged > 0


def test_a_damaged_block_spoils_only_what_it_is_part_of(bench: Bench) -> None:
    data = random.Random(7).randbytes(3 * BLOCK)
    etag = bench.put("k", data)
    client = bench.connect()
    get(client, etag)
    [path] = bench.entries()
    whole = path.read_bytes()
    path.write_bytes(whole[:10] + bytes([whole[10] ^ 255]) + whole[11:])
    bench.asked()
    assert get(client, etag, BLOCK, 2 * BLOCK) == data[BLOCK : 2 * BLOCK]
    assert bench.asked() == []
    assert get(client, etag, 0, 5) == data[:5]
    assert len(bench.asked()) == 1


def test_a_damaged_entry_is_gone_as_soon_as_it_is_seen(bench: Bench) -> None:
    cache = DiskCache(CacheConfig(str(bench.directory), min_free_bytes=0))
    version = Version("s", "b", "k", '"e"')
    cache.store(version, GetInfo(0, 1000, 1000, '"e"'), bytes(1000))
    [path] = bench.entries()
    path.write_bytes(b"x" + path.read_bytes()[1:])
    found = cache.find(version, None, None, None)
    assert found is not None
    with pytest.raises(DamagedError):
        found.read_into(memoryview(bytearray(1000)))
    assert bench.entries() == []


def test_a_damaged_note_of_the_last_version_is_no_harm(bench: Bench) -> None:
    bench.put("k", b"data")
    client = bench.connect()
    client.read("b", "k")
    for path in bench.entries():
        path.write_bytes(b"rubbish")
    assert client.read("b", "k") == b"data"
    assert client.read("b", "k") == b"data"
    assert [request.if_none_match is not None for request in bench.asked()][-1]


def test_stores_buckets_keys_and_versions_are_told_apart(tmp_path: Path) -> None:
    cache = DiskCache(CacheConfig(str(tmp_path), min_free_bytes=0))
    one = Version("https://a", "b", "k", '"e"')
    others = [replace(one, **{name: "x"}) for name in ("store", "bucket", "key", "etag")]
    others.append(Version("https://a", "b", 'k\n"e"', '"e"'))
    for number, version in enumerate([one, *others]):
        cache.store(version, GetInfo(0, 1, 1, version.etag), bytes([number]))
    for number, version in enumerate([one, *others]):
        found = cache.find(version, None, None, None)
        assert found is not None
        memory = bytearray(1)
        found.read_into(memoryview(memory))
        found.close()
        assert memory[0] == number


def test_clients_of_other_endpoints_share_nothing(tmp_path: Path) -> None:
    for endpoint, data in (("memory://one/", b"1"), ("memory://two", b"2")):
        store = MemoryStore.named(endpoint)
        store.create_bucket("b")
        store.write("b", "k", data, S3ClientConfig().put_options, etag='"same"')
        config = S3ClientConfig(engine="memory", cache=CacheConfig(str(tmp_path), min_free_bytes=0))
        assert get(S3Client(endpoint=endpoint, s3client_config=config), '"same"') == data
        store.clear()


def test_weak_and_missing_etags_are_not_kept(bench: Bench) -> None:
    client = bench.connect()
    for etag in ('W/"weak"', ""):
        bench.store.write("b", "k", b"data", S3ClientConfig().put_options)
        found = bench.store.find("b", "k")
        bench.store._bucket("b").objects["k"] = replace(found, etag=etag)  # what no store should send
        assert client.read("b", "k") == b"data"
    assert bench.entries() == []


@only_linux
def test_a_full_disk_is_no_error_and_said_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.open

    def open_full(path: str | Path, flags: int, *arguments: int) -> int:
        descriptor = open_file(path, flags, *arguments)
        if "drafts" in str(path):
            os.close(descriptor)
            descriptor = open_file("/dev/full", os.O_WRONLY)
        return descriptor

    etag = bench.put("k", b"data")
    client = bench.connect()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_full)
        with pytest.warns(RuntimeWarning, match="No space left"):
            assert get(client, etag) == b"data"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert get(client, etag) == b"data"
            assert client.read("b", "k") == b"data"
    assert bench.entries() == []
    assert list(bench.directory.rglob("drafts/*")) == []
    assert client.cache is not None
    assert client.cache.stats().bypassed == 3


def test_too_little_free_space_keeps_it_from_writing(bench: Bench) -> None:
    etag = bench.put("k", b"data")
    config = CacheConfig(str(bench.directory), min_free_bytes=shutil.disk_usage(bench.directory.parent).free * 2)
    client = S3Client(endpoint=ENDPOINT, s3client_config=S3ClientConfig(engine=bench.engine, cache=config))
    assert get(client, etag) == get(client, etag) == b"data"
    assert bench.entries() == []


def test_what_is_being_read_is_neither_lost_nor_in_the_way(tmp_path: Path) -> None:
    now = [1e9]
    cache = DiskCache(CacheConfig(str(tmp_path), MIB, min_free_bytes=0), clock=lambda: now[0], chance=1.0)
    data = random.Random(3).randbytes(30_000)
    info = GetInfo(0, len(data), len(data), '"e"')
    read = Version("s", "b", "read", '"e"')
    cache.store(read, info, data)
    found = cache.find(read, None, None, None)
    assert found is not None
    cache.store(read, info, data)  # another reader had missed it
    for number in range(100):  # more than there is room for
        now[0] += 100
        cache.store(Version("s", "b", str(number), '"e"'), info, data)
    into = bytearray(len(data))
    found.read_into(memoryview(into))
    found.close()
    assert into == data
    assert cache.stats().evicted > 0
    assert cache.stats().bypassed == 0
    assert cache.used() <= MIB + 64 * 1024
    assert list(tmp_path.rglob("drafts/*")) == []


def test_it_holds_its_bound_and_the_most_recently_used(tmp_path: Path) -> None:
    now = [1e9]
    cache = DiskCache(CacheConfig(str(tmp_path), 2 * MIB, min_free_bytes=0), clock=lambda: now[0], chance=1.0)
    versions = [Version("s", "b", str(number), '"e"') for number in range(300)]
    data = bytes(30_000)
    for version in versions:
        now[0] += 100
        cache.store(version, GetInfo(0, len(data), len(data), '"e"'), data)
        for kept in versions[:10]:  # in use all the time
            if (found := cache.find(kept, None, None, None)) is not None:
                found.close()
        if now[0] % 2000 < 100:
            assert cache.used() <= 2 * MIB + 64 * 1024
    there = [number for number, version in enumerate(versions) if cache.find(version, None, None, None)]
    assert set(range(10)) < set(there)
    assert len(there) > 40
    assert sum(there) / len(there) > 150  # the newest, mostly
    stats = cache.stats()
    assert stats.evicted == 300 - len(there)


def count_hits(cache: DiskCache, keys: Iterable[str]) -> int:
    """Ask for 30 KB objects one after another, and keep those that are not there, as a reading client does."""
    data = bytes(30_000)
    hits = 0
    for key in keys:
        version = Version("s", "b", key, '"e"')
        found = cache.find(version, None, None, None)
        if found is None:
            cache.store(version, GetInfo(0, len(data), len(data), '"e"'), data)
        else:
            hits += 1
            found.close()
    return hits


def test_epochs_over_more_than_it_holds_find_what_it_holds(tmp_path: Path) -> None:
    cache = DiskCache(CacheConfig(str(tmp_path), 2 * MIB, min_free_bytes=0))
    keys = [str(number) for number in range(120)]  # twice what there is room for
    hits = [count_hits(cache, keys) for _ in range(4)]
    assert hits[-1] > 35  # the least recently used would go always just before their turn: none


def test_what_has_not_been_used_for_long_makes_room_at_once(tmp_path: Path) -> None:
    now = [1e9]
    cache = DiskCache(CacheConfig(str(tmp_path), 2 * MIB, min_free_bytes=0), clock=lambda: now[0], chance=1 / 64)
    most = 0
    for number in range(2000):  # each but once; few are let in while what is there may be in use
        now[0] += 10
        before = cache.stats().evicted
        count_hits(cache, [str(number)])
        most = max(most, cache.stats().evicted - before)
    assert most > 10  # the least recently used alone would go one by one


def test_what_killed_writers_left_is_swept(bench: Bench) -> None:
    etag = bench.put("k", b"data")
    get(bench.connect(), etag)
    old = next(bench.directory.rglob("drafts")) / "1-1"
    new = old.with_name("1-2")
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    DiskCache(CacheConfig(str(bench.directory), min_free_bytes=0))
    assert not old.exists()
    assert new.exists()


def test_the_bytes_used_are_counted_anew_when_killed_processes_did_not_tell(tmp_path: Path) -> None:
    now = [1e9]
    config = CacheConfig(str(tmp_path), 2 * MIB, min_free_bytes=0)
    data = bytes(30_000)
    info = GetInfo(0, len(data), len(data), '"e"')
    for number in range(30):  # none of these tells
        untold = DiskCache(config, clock=lambda: 0.0)
        untold._room._flush_bytes = 2**60  # as if killed before
        untold.store(Version("s", "b", f"untold/{number}", '"e"'), info, data)
    cache = DiskCache(config, clock=lambda: now[0], chance=1.0)
    for number in range(300):
        now[0] += 100
        cache.store(Version("s", "b", str(number), '"e"'), info, data)
    assert cache.used() <= 2 * MIB


def test_strange_files_among_the_entries_are_no_harm(bench: Bench) -> None:
    data = random.Random(9).randbytes(3000)
    etag = bench.put("k", data)
    client = bench.connect()
    get(client, etag, 0, 1000)
    [path] = bench.entries()
    for name in (
        f"{path.name}~",
        f"{path.name.partition('-')[0]}-0-7d0.tmp",
        f"{path.name.partition('-')[0]}-x-y",
        "a",
    ):
        path.with_name(name).write_bytes(path.read_bytes())  # such as a tool that copies the directory leaves
    bench.asked()
    assert get(client, etag, 500, 2000) == data[500:2000]
    assert get(client, etag, 250, 750) == data[250:750]
    assert [(request.start, request.end) for request in bench.asked()] == [(500, 2000)]


def test_everything_may_be_deleted_while_it_is_used(bench: Bench) -> None:
    etag = bench.put("k", b"data" * 100)
    client = bench.connect()
    get(client, etag)
    shutil.rmtree(next(bench.directory.rglob("entries")))
    assert get(client, etag) == b"data" * 100
    for folder in list(bench.directory.iterdir()):
        shutil.rmtree(folder)
    bench.asked()
    assert get(client, etag) == b"data" * 100
    assert get(client, etag) == b"data" * 100
    assert len(bench.asked()) == 1


def test_counts_are_told_to_other_processes(bench: Bench) -> None:
    etag = bench.put("k", b"data")
    client = bench.connect()
    get(client, etag)
    get(client, etag)
    client.close()
    shared = DiskCache(CacheConfig(str(bench.directory))).shared_stats()
    assert (shared.hits, shared.misses, shared.bytes_hit, shared.bytes_stored) == (1, 1, 4, 4)


def test_clients_with_a_cache_pickle_and_share_it(bench: Bench, tmp_path: Path) -> None:
    config = S3ClientConfig(engine="memory", cache=CacheConfig(str(tmp_path / "c")))
    client = S3Client(endpoint="memory://p", s3client_config=config)
    twin = pickle.loads(pickle.dumps(client))
    assert twin.s3client_config == config
    assert twin.cache is client.cache is cache_for(CacheConfig(str(tmp_path / "c")))
    assert isinstance(twin.engine, CachingEngine)
    assert "memory" in repr(twin.engine).lower()
    assert bench.connect().cache is not client.cache
    assert S3Client().cache is None


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: CacheConfig(""), ValueError, "directory"),
        (lambda: CacheConfig(7), TypeError, "directory"),  # type: ignore[arg-type]  # the mistake
        (lambda: CacheConfig("c", 1000), ValueError, "max_bytes"),
        (lambda: CacheConfig("c", min_free_bytes=-1), ValueError, "min_free_bytes"),
        (lambda: S3ClientConfig(cache="c"), TypeError, "CacheConfig"),  # type: ignore[arg-type]  # the mistake
    ],
)
def test_mistakes_fail_at_once(make: Callable[[], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    config = S3ClientConfig(engine="memory", cache=CacheConfig(str(tmp_path / "file" / "cache")))
    with pytest.raises(OSError, match=r"cache's directory cannot be used .*file/cache"):
        S3Client(s3client_config=config).read("b", "k")


@pytest.mark.parametrize("engine", ["direct", "boto3"])
def test_real_engines_ask_with_if_none_match(
    engine: str, moto_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_server.endpoint)  # the engine finds the store's name itself
    bucket = moto_server.create_bucket(f"cached-{engine}")
    server = moto_server.boto3_client()
    data = random.Random(8).randbytes(BLOCK + 77)
    server.put_object(Bucket=bucket, Key="k", Body=data)
    config = S3ClientConfig(engine=engine, cache=CacheConfig(str(tmp_path), min_free_bytes=0))
    client = S3Client(moto_server.region, s3client_config=config)
    assert client.cache is not None
    assert client.read(bucket, "k") == data
    assert client.read(bucket, "k") == data
    stats = client.cache.stats()
    assert (stats.misses, stats.hits, stats.revalidated) == (1, 1, 1)
    [listed] = [info for page in client.list_objects(bucket) for info in page.object_info]
    assert client.read(bucket, "k", object_info=listed) == data
    with client.get(bucket, "k", object_info=listed) as stream:
        stream.seek(-50, os.SEEK_END)
        assert stream.read() == data[-50:]
    assert client.cache.stats().misses == 1
    server.put_object(Bucket=bucket, Key="k", Body=b"changed")
    assert client.read(bucket, "k") == b"changed"
    assert client.read(bucket, "k") == b"changed"
    server.delete_object(Bucket=bucket, Key="k")
    with pytest.raises(ObjectNotFoundError):
        client.read(bucket, "k")
    client.close()
