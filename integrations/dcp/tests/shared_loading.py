"""Run by torchrun: loads one checkpoint in many ways on all ranks and checks what each has."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from s3torch.client import S3ClientConfig
from s3torch.client.direct.engine import DirectEngine
from s3torch.client.protocols import Engine, EngineContext, Into
from s3torch.dcp import S3StorageReader, S3StorageWriter

BUCKET, ENDPOINT = sys.argv[1:3]
URI = f"s3://{BUCKET}/run"


class Counting(DirectEngine):
    """Counts the bytes of data files that this rank asks for, and may refuse them."""

    fetched = 0
    is_broken = False

    def start_get(self, request: Any, into: Into = None) -> Any:
        if request.key.endswith(".distcp"):
            Counting.fetched += (request.end or 0) - (request.start or 0)
            if Counting.is_broken:
                raise RuntimeError("broken on purpose")
        return super().start_get(request, into)


def make_engine(context: EngineContext) -> Engine:
    return Counting(context)


CONFIG = S3ClientConfig(engine=make_engine, force_path_style=True)


def whole() -> dict[str, Any]:
    torch.manual_seed(5)
    return {
        "large": torch.randn(1500, 1000),
        "turned": torch.randn(900, 700).t().contiguous().t(),
        "half": torch.randn(3000).to(torch.bfloat16),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 3),
        "small": {f"layer{number}": torch.randn(number + 1) for number in range(50)},
        "sharded": torch.randn(1201, 300),
    }


def state(full: dict[str, Any] | None, mesh: Any) -> dict[str, Any]:
    """Replicated tensors, one that is sharded, one replicated DTensor, and an object."""
    source = whole() if full is None else full
    made: dict[str, Any] = {name: value for name, value in source.items() if name not in ("sharded", "small")}
    made["small"] = dict(source["small"])
    if full is None:
        made = {name: torch.zeros_like(value) for name, value in made.items() if name != "small"}
        made["small"] = {name: torch.zeros_like(value) for name, value in source["small"].items()}
    zero = 1 if full is not None else 0
    made["sharded"] = distribute_tensor(source["sharded"] * zero, mesh, [Shard(0)])
    made["copied"] = distribute_tensor(source["sharded"][:700] * zero, mesh, [Replicate()])
    made["epoch"] = {"number": 12 * zero, "name": "run" * zero}
    return made


def check(found: dict[str, Any], full: dict[str, Any]) -> None:
    for name, value in full.items():
        if name == "sharded":
            sharded = found[name]
            assert isinstance(sharded, DTensor)
            assert torch.equal(sharded.full_tensor(), value), name
        elif name == "small":
            assert all(torch.equal(found[name][each], value[each]) for each in value), name
        else:
            assert torch.equal(found[name], value), name
    assert torch.equal(found["copied"].to_local(), full["sharded"][:700])
    assert found["epoch"] == {"number": 12, "name": "run"}


def reader(broadcast: Any, **options: Any) -> S3StorageReader:
    return S3StorageReader("us-east-1", URI, CONFIG, endpoint=ENDPOINT, broadcast=broadcast, **options)


def attempt(call: Callable[[], object]) -> str:
    try:
        call()
    except dcp.api.CheckpointException as error:
        return " | ".join(f"{rank}: {failure[0]}" for rank, failure in sorted(error.failures.items()))
    return "no error"


class Short(dcp.DefaultLoadPlanner):
    """On one rank, leaves an item out that was planned."""

    def finish_plan(self, new_plan: Any) -> Any:
        if dist.get_rank() == 1:
            new_plan.items = [item for item in new_plan.items if item.dest_index.fqn != "half"]
        return super().finish_plan(new_plan)


def main() -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    full = whole()
    writer = S3StorageWriter("us-east-1", URI, S3ClientConfig(force_path_style=True), endpoint=ENDPOINT)
    dcp.save(state(full, mesh), storage_writer=writer)
    report: dict[str, Any] = {}
    for name in ("never", "auto", "host", "job", "job, little memory"):
        Counting.fetched = 0
        found = state(None, mesh)
        dcp.load(
            found, storage_reader=reader(name.partition(",")[0], memory_budget=1 if "little" in name else 96 << 20)
        )
        check(found, full)
        report[name] = Counting.fetched
    # A planner that drops an item on one rank, targets of another layout and type.
    found = state(None, mesh)
    dcp.load(found, storage_reader=reader("job"), planner=Short())
    assert torch.equal(found["half"], full["half"]) == (rank != 1)
    found = state(None, mesh)
    found["large"] = torch.zeros(1000, 1500, dtype=torch.float64).t()
    dcp.load(found, storage_reader=reader("host"))
    assert torch.equal(found["large"], full["large"].double())
    # A part of the job, and every rank for itself: nothing is shared.
    group = dist.new_group([0])
    if rank == 0:
        found = {"large": torch.zeros(1500, 1000)}
        dcp.load(found, storage_reader=reader("job"), process_group=group)
        assert torch.equal(found["large"], full["large"])
    found = {"large": torch.zeros(1500, 1000)}
    dcp.load(found, storage_reader=reader("job"), no_dist=True)
    assert torch.equal(found["large"], full["large"])
    # One rank fails: all learn of it, at once.
    for broadcast in ("never", "host", "job"):
        Counting.is_broken = rank == 1
        report[f"broken/{broadcast}"] = attempt(
            lambda broadcast=broadcast: dcp.load(state(None, mesh), storage_reader=reader(broadcast))  # type: ignore[misc]  # bound now
        )
        Counting.is_broken = False
    missing = S3StorageReader("us-east-1", f"{URI}/none", CONFIG, endpoint=ENDPOINT, broadcast="job")
    report["missing"] = attempt(lambda: dcp.load(state(None, mesh), storage_reader=missing))
    with open(os.environ["REPORT"] + str(rank), "w") as file:  # noqa: PTH123  # a name, not a path
        json.dump(report, file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
