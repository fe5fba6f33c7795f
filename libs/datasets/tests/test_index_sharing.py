"""Processes share an index: none has a copy, however it was started."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import platform
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from s3torch.client import ObjectInfo, S3BucketKeyData
from s3torch.datasets import S3Index
from s3torch.datasets._shared_memory import allocate_shared, take_pages
from s3torch.datasets.index import _shared
from s3torch.datasets.index._shared import Pieces, SharedArrays

METHODS = [
    # The third travels as the second does, and takes as long to start.
    pytest.param(name, marks=[pytest.mark.slow] if name == "forkserver" else [])
    for name in ("fork", "spawn", "forkserver")
    if name in multiprocessing.get_all_start_methods()
]


def many(count: int) -> S3Index:
    return S3Index.from_items(
        S3BucketKeyData("b", key(number), ObjectInfo(key(number), f'"{number:032x}"', number, 0))
        for number in range(count)
    )


def key(number: int) -> str:
    return f"{number * 2654435761 % 2**32:08x}/{'x' * 52}"


def _private() -> int:
    """Bytes of memory that this process has to itself."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _use(index: S3Index, answer: Any) -> None:
    gc.disable()  # a collection in a fork writes to all that it has from its parent
    last = list(index[:2000])[-1]  # what else it takes to use one, a forked process's share of its parent's memory
    before = _private()
    for item in index:
        last = item
    answer.put((len(index), last, _private() - before))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_uses_it_has_no_copy(method: str) -> None:
    whole = many(150_000)
    index = whole.take(np.random.default_rng(0).permutation(150_000)).where(max_size=140_000)
    assert whole.nbytes > 12_000_000, "a copy would show"
    context: Any = multiprocessing.get_context(method)
    answer = context.SimpleQueue()
    process = context.Process(target=_use, args=(index, answer))
    process.start()
    try:
        process.join(100)
        assert process.exitcode == 0
        count, last, growth = answer.get()
        assert (count, last) == (140_001, index[-1])
        assert growth < 8_000_000
    finally:
        process.kill()
        process.join()


def test_a_plain_pickle_carries_the_bytes() -> None:
    index = many(2000)
    state = pickle.dumps(index)
    assert index.nbytes < len(state) < 2 * index.nbytes
    again: S3Index = pickle.loads(state)
    del index
    assert again[1999].key == key(1999)
    assert again._columns.arrays.is_shared


def test_what_has_no_room_in_shared_memory_is_kept_in_private_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to shared memory beyond the file system's size would end the process."""
    usage = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(_shared, "_SHM", Path.cwd())
    index = many(2000)
    assert not index._columns.arrays.is_shared
    again: S3Index = pickle.loads(pickle.dumps(index))
    assert list(again) == list(index)
    assert again.fingerprint == index.fingerprint


@pytest.mark.parametrize("method", ["no pages", "nothing to spare"])
def test_room_that_others_take_at_the_same_time_is_given_up(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Ranks that share an index all see room for it at once."""
    free = iter([2**40, 0])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(_shared, "_SHM", Path.cwd())
    if method == "no pages":
        monkeypatch.setattr(_shared, "take_pages", lambda _: False)
    assert not many(2000)._columns.arrays.is_shared
    assert list(free) == ([0] if method == "no pages" else [])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system cannot tell")
def test_pages_that_are_not_there_are_noticed_before_they_are_written(tmp_path: Path) -> None:
    """Memory whose file has become too short is refused as memory is for which there is no room."""
    path = tmp_path / "memory"
    path.write_bytes(bytes(1_000_000))
    memory = torch.from_file(str(path), shared=True, size=1_000_000, dtype=torch.uint8)
    assert take_pages(memory)
    with path.open("r+b") as file:
        file.truncate(300_000)
    if tuple(map(int, platform.release().split(".")[:2])) >= (5, 14):
        assert not take_pages(memory)
    assert take_pages(allocate_shared(1_000_000))


def test_arrays_in_shared_memory_cannot_be_written() -> None:
    arrays = SharedArrays(
        {
            "a": Pieces((7,), np.dtype(np.int64), (np.arange(count) for count in (5, 2))),
            "b": Pieces.of(np.zeros((0, 3), np.uint8)),
        }
    )
    assert arrays["a"].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert arrays["b"].shape == (0, 3)
    assert list(arrays) == ["a", "b"]
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][0] = 1
    large = SharedArrays({"a": Pieces.of(np.arange(20_000))})
    assert large.is_shared
    assert isinstance(large._memory, torch.Tensor)
    with pytest.raises(ValueError, match="read-only"):
        large["a"][0] = 1
