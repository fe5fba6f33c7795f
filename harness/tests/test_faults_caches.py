"""The matrix with caches: a slice of it passes, what is broken on purpose is found, and files are spoiled as told."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from harness.tests.processes import run_python

from s3torch.client import (
    CacheConfig,
    GetInfo,
    GetRequest,
    ObjectNotFoundError,
    PreconditionFailedError,
    S3Client,
    S3ClientConfig,
)
from s3torch.client.cache import DiskCache
from s3torch.client.memory import MemoryStore
from s3torch.harness._options import ENGINES
from s3torch.harness.faults import FaultPlan, FaultProxy
from s3torch.harness.faults.cases import ALL_CASES
from s3torch.harness.faults.matrix import choose_cells
from s3torch.harness.faults.subjects import ALL_SUBJECTS
from s3torch.harness.servers import MotoServer

if not hasattr(os, "fork"):
    pytest.skip("the matrix forks its cells", allow_module_level=True)

from s3torch.harness.faults._cache_faults import damage, entries, etag_of, wrong_entries

ENDPOINT = "memory://faults-caches"
DATA = random.Random(1).randbytes(50_000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A cache that holds one object, in two ranges, and which version of it was seen last."""
    store = MemoryStore.named(ENDPOINT)
    store.clear()
    store.create_bucket("b")
    store.write("b", "k", DATA, S3ClientConfig().put_options, etag=etag_of(DATA))
    config = S3ClientConfig(engine="memory", cache=CacheConfig(tmp_path, min_free_bytes=0))
    with S3Client(endpoint=ENDPOINT, s3client_config=config) as client:
        assert client.read("b", "k") == DATA
    return tmp_path


def versions(key: str) -> dict[str, bytes]:
    return {etag_of(DATA): DATA} if key == "k" else {}


def test_what_a_cache_holds_is_known_to_be_right_or_wrong(directory: Path) -> None:
    assert len(entries(directory)) == 2  # its bytes, and which version that is
    assert wrong_entries(directory, versions) == []
    assert wrong_entries(directory, lambda _: {'"another"': DATA}) != []
    [path] = [path for path in entries(directory) if path.stat().st_size > len(DATA)]
    spoiled = bytearray(path.read_bytes())
    spoiled[7] ^= 1
    path.write_bytes(spoiled)
    [told] = wrong_entries(directory, versions)
    assert "50000 at 0 of k" in told
    path.write_bytes(spoiled[:-1])  # anybody sees that this is no such file
    assert wrong_entries(directory, versions) == []


def test_bytes_of_one_version_under_the_name_of_another_are_found(tmp_path: Path) -> None:
    from s3torch.client.cache._entry import Version

    other = bytes(len(DATA))
    cache = DiskCache(CacheConfig(tmp_path, min_free_bytes=0))
    cache.store(Version("s", "b", "k", etag_of(DATA)), GetInfo(0, 100, len(DATA), etag_of(DATA)), DATA[:100])
    cache.store(Version("s", "b", "k", etag_of(DATA)), GetInfo(100, 100, len(DATA), etag_of(DATA)), other[:100])
    [told] = wrong_entries(tmp_path, lambda _: {etag_of(each): each for each in (DATA, other)})
    assert "100 at 100 of k" in told


@pytest.mark.parametrize("fault", ["flip", "cut", "other"])
def test_every_file_is_spoiled(directory: Path, fault: str) -> None:
    before = [path.read_bytes() for path in entries(directory)]
    names = entries(directory)
    assert damage(directory, fault, random.Random(2)) == len(before)  # type: ignore[arg-type]  # one of them
    after = [path.read_bytes() for path in names]
    assert all(old != new for old, new in zip(before, after, strict=True))
    if fault == "other":
        assert sorted(before) == sorted(after)
        assert len(entries(directory)) > len(before)  # strange ones beside


def test_a_proxy_counts_the_answers_that_have_bytes_of_objects(
    moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_key)
    bucket = moto_server.create_bucket("faults-caches")
    with FaultProxy(moto_server.endpoint, FaultPlan()) as proxy:
        client = S3Client(moto_server.region, endpoint=proxy.endpoint)
        client.put(bucket, "k", DATA)
        client.put(bucket, "empty", b"")
        etag = client.head_object(bucket, "k").etag
        assert [len(page.object_info) for page in client.list_objects(bucket)] == [2]
        with pytest.raises(PreconditionFailedError):  # 304
            client.engine.start_get(GetRequest(bucket, "k", if_none_match=etag)).result()
        with pytest.raises(ObjectNotFoundError):
            client.read(bucket, "none")
        assert client.read(bucket, "empty") == b""
        assert proxy.objects() == 0
        assert client.read(bucket, "k") == DATA
        assert proxy.objects() == 1
        assert proxy.injected() == {}
        proxy.follow(FaultPlan())
        assert proxy.objects() == proxy.requests() == 0
        client.close()


def test_etags_are_those_of_one_request() -> None:
    assert etag_of(b"abc") == '"900150983cd24fb0d6963f7d28e17f72"'  # RFC 1321, appendix A.5


def test_faults_of_caches_meet_those_that_have_one() -> None:
    cells = choose_cells(ALL_CASES, ALL_SUBJECTS, ENGINES)
    have_caches = {each.name for each in ALL_SUBJECTS if each.has_cache}
    of_caches = {each.name for each in ALL_CASES if each.cached}
    assert {cell.subject for cell in cells if cell.case in of_caches} == have_caches
    assert {cell.case for cell in cells if cell.subject in have_caches} > of_caches
    assert {cell.engine for cell in cells if cell.subject in have_caches} == {"direct", "boto3"}
    wanted = {name for each in ALL_SUBJECTS for name in each.only or ()}
    assert wanted <= {each.name for each in ALL_CASES}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_slice_of_the_matrix_passes(tmp_path: Path) -> None:
    wanted = {
        "subject": ["cached-data", "cached-processes"],
        "fault": ["cut", "flip-always", "cache-flip", "cache-kill", "cache-lost", "cache-replace"],
        "engine": ["direct"],
    }
    arguments = [part for name, values in wanted.items() for value in values for part in (f"--{name}", value)]
    file = tmp_path / "cells.json"
    ended = run_python("-m", "s3torch.harness.faults", *arguments, "--seed", "1", "--json", str(file), seconds=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = {(cell["case"], cell["subject"]): cell for cell in json.loads(file.read_text())["cells"]}
    assert len(found) == 9
    assert found["flip-always", "cached-data"]["verdict"] == "error"
    assert found["cache-kill", "cached-data"]["verdict"] == "right"
    assert found["cache-kill", "cached-data"]["struck"] == 10
    assert all(cell["struck"] for cell in found.values())


# Each defect is there for one cell alone: cells are forked.
PLANTED = """
import contextlib
from unittest import mock
from s3torch.client.cache import _entry, disk, engine
from s3torch.harness.faults.matrix import Matrix, Settings
from s3torch.harness.faults.verdict import Cell

def spoil(store):
    return lambda self, version, info, data: store(self, version, info, bytes(data[1:]) + b"x")

DEFECTS = {
    "nothing": ("cache-flip", contextlib.nullcontext()),
    "verifies nothing": ("cache-flip", mock.patch.object(_entry, "_check", lambda *_: None)),
    "never asks again": ("cache-replace", mock.patch.object(
        engine, "_Revalidation",
        lambda self, request, into, found: self.serve(request, found, into, is_revalidated=True),
    )),
    "keeps nothing": ("cut", mock.patch.object(disk.DiskCache, "_write", lambda *_: False)),
    "keeps wrong bytes": ("cut", mock.patch.object(disk.DiskCache, "store", spoil(disk.DiskCache.store))),
    "lets errors out": ("cache-cut", mock.patch.object(disk.DiskCache, "drop", lambda self, path: {}[path])),
}

with Matrix(Settings(seed=1, jobs=1, limit=30.0)) as matrix:
    for name, (case, planted) in DEFECTS.items():
        with planted:
            [outcome] = matrix.run([Cell(case, "cached-data", "direct")], {"direct": "direct"})
        print(name, "->", outcome.verdict.value, "|", outcome.detail.replace(chr(10), " "))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cache_that_is_broken_on_purpose_is_found() -> None:
    ended = run_python("-c", PLANTED, seconds=280)
    assert ended.returncode == 0, ended.stderr
    told = dict(line.split(" -> ") for line in ended.stdout.splitlines())
    verdicts = {name: found.partition(" | ")[0] for name, found in told.items()}
    assert verdicts == {
        "nothing": "right",
        "verifies nothing": "WRONG BYTES",
        "never asks again": "WRONG BYTES",
        "keeps nothing": "WRONG BYTES",
        "keeps wrong bytes": "WRONG BYTES",
        "lets errors out": "UNTYPED ERROR",
    }, ended.stdout
    assert "the store sent" in told["keeps nothing"]
