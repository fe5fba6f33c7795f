"""Several ranks load together: real processes, a real process group, a real server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from s3torch.dcp._broadcast_plan import Offer, Share, share_plans, wanted

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

RANKS = 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ranks_share_what_they_read(moto_server: MotoServer, s3_bucket: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("shared_loading.py")
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", str(script)]
    environment = {**os.environ, **moto_server.env(), "REPORT": str(tmp_path / "rank"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*run, s3_bucket, moto_server.endpoint],
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    reports: list[dict[str, Any]] = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(RANKS)]
    shared = 1500 * 1000 * 4 + 900 * 700 * 4 + 700 * 300 * 4
    sharded = 1201 * 300 * 4
    alone = [report["never"] for report in reports]
    assert min(alone) > shared + sharded // RANKS - 2000
    assert [report["auto"] for report in reports] == alone
    for broadcast in ("host", "job", "job, little memory"):
        together = [report[broadcast] for report in reports]
        assert sum(together) < shared + sharded + 200_000
        assert max(together) < 0.7 * sum(together)  # each does its part
    for broadcast in ("never", "host", "job"):
        for report in reports:
            assert "1: broken on purpose" in report[f"broken/{broadcast}"]
    for report in reports:
        assert "nothing is stored there" in report["missing"]


def read(name: str, start: int = 0, length: int = 100) -> ReadItem:
    index, size = MetadataIndex(name, [0]), torch.Size([length])
    return ReadItem(LoadItemType.TENSOR, index, torch.Size([0]), index, torch.Size([start]), size)


def metadata(*names: str) -> Metadata:
    chunk = ChunkStorageMetadata(torch.Size([0]), torch.Size([10**8]))
    described: Any = {
        name: TensorStorageMetadata(TensorProperties(torch.float32), torch.Size([10**8]), [chunk]) for name in names
    }
    storage = {MetadataIndex(name, [0]): _StorageInfo("file", 10**9 * n, 4 * 10**8) for n, name in enumerate(names)}
    return Metadata(described, storage_data=storage)


def share(plans: list[LoadPlan], broadcast: Any = "host") -> list[Any]:
    about = metadata("a", "b", "c")
    return [plan.storage_data for plan in share_plans(plans, broadcast, about.storage_data, about)]


def plan(rank: int, host: str, *reads: ReadItem, jobs: int = 4) -> LoadPlan:
    return LoadPlan(list(reads), storage_data=Offer(rank, host, jobs))


def test_what_all_ranks_of_a_host_read_is_shared_there() -> None:
    shares = share(
        [
            plan(0, "x", read("a"), read("b", 0, 50)),
            plan(1, "y", read("a"), read("c")),
            plan(2, "x", read("a"), read("b", 50, 50)),
            plan(3, "y", read("a"), read("c")),
        ]
    )
    assert all(isinstance(each, Share) for each in shares)
    assert [each.groups for each in shares] == [((0, 2), (1, 3))] * 4
    assert shares[0].batches == shares[2].batches
    assert [item.wanted for batch in shares[0].batches for item in batch] == [wanted(read("a"))]
    assert [item.wanted.index.fqn for batch in shares[1].batches for item in batch] == ["a", "c"]
    assert {item.root for batch in shares[1].batches for item in batch} <= {1, 3}


def test_one_group_for_the_job() -> None:
    shares = share([plan(rank, f"host{rank}", read("a")) for rank in range(4)], "job")
    assert [each.groups for each in shares] == [((0, 1, 2, 3),)] * 4


def test_large_items_are_spread_over_the_ranks() -> None:
    reads = [read("a", start, 5_000_000) for start in range(0, 80_000_000, 5_000_000)]
    shares = share([plan(rank, "x", *reads) for rank in range(4)])
    counts = dict.fromkeys(range(4), 0)
    for batch in shares[0].batches:
        assert sum(item.nbytes for item in batch) <= (48 << 20) + 20_000_000
        for item in batch:
            counts[item.root] += item.nbytes
    assert set(counts.values()) == {80_000_000}


def test_small_neighbours_are_read_by_one_rank() -> None:
    shares = share(
        [plan(rank, "x", *(read("a", start, 1000) for start in range(0, 400_000, 1000))) for rank in range(4)]
    )
    roots = [item.root for batch in shares[0].batches for item in batch]
    assert len(roots) == 400
    assert sum(before != after for before, after in itertools.pairwise(roots)) == 1


@pytest.mark.parametrize(
    "plans",
    [
        [plan(rank, f"host{rank}", read("a")) for rank in range(4)],  # one rank on each host
        [plan(rank, "x", read("a"), jobs=8) for rank in range(4)],  # a part of the job
        [plan(0, "x", read("a")), *(LoadPlan([read("a")]) for _ in range(3))],  # some cannot take part
        [plan(rank, "x", read("a", 10 * rank, 10)) for rank in range(4)],  # nothing in common
        [plan(rank, "x", read("a", 0, 0)) for rank in range(4)],  # nothing at all
        [plan(0, "x", read("a"), jobs=1)],
    ],
)
def test_where_there_is_nothing_to_share_nobody_does(plans: list[LoadPlan]) -> None:
    assert share(plans) == [None] * len(plans)
