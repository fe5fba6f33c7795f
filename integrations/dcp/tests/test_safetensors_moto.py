"""Safetensors models on a server: over real sockets, in bounded memory, from two processes of a group."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
import torch.distributed
import torch.distributed.checkpoint as dcp

from s3torch.client import S3Client, S3ClientConfig, S3NotFoundError
from s3torch.dcp import (
    S3HuggingFaceStorageReader,
    S3HuggingFaceStorageWriter,
    load_safetensors,
    open_safetensors,
    save_safetensors,
)

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer, Origin, Sink

pytestmark = [pytest.mark.usefixtures("dummy_aws_env"), pytest.mark.timeout(300)]

CONFIG = S3ClientConfig(force_path_style=True, operation_timeout=60)
WORLD_SIZE = 2
has_gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
needs_gloo = pytest.mark.skipif(not has_gloo, reason="torch without gloo")


@pytest.fixture
def where(moto_server: MotoServer) -> dict[str, Any]:
    return {"region": moto_server.region, "endpoint": moto_server.endpoint, "s3client_config": CONFIG}


def client_of(where: dict[str, Any]) -> S3Client:
    return S3Client(where["region"], endpoint=where["endpoint"], s3client_config=CONFIG)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "large": torch.randn(3000, 2000),
        "transposed": torch.randn(70, 30).t(),
        **{f"small.{number}": torch.randn(number) for number in range(20)},
    }


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return set(left) == set(right) and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("shard", [None, 1 << 20])
def test_round_trip(s3_bucket: str, where: dict[str, Any], shard: int | None) -> None:
    uri = f"s3://{s3_bucket}/some folder/m+%.safetensors"
    save_safetensors(tensors(), uri, max_shard_size=shard, metadata={"step": "3"}, **where)
    assert same(load_safetensors(uri, **where), load_safetensors(f"s3://{s3_bucket}/some folder", **where))
    assert same(load_safetensors(uri, names=sorted(tensors()), **where), tensors())
    with open_safetensors(uri, **where) as model:
        assert model.metadata() == {"format": "pt", "step": "3"}
        assert torch.equal(model.get_slice("large")[1000:1010, ::2], tensors()["large"][1000:1010, ::2])
    if shard is None:
        with client_of(where) as client:
            assert same(safetensors.torch.load(client.read(s3_bucket, "some folder/m+%.safetensors")), tensors())


def test_what_is_not_there(s3_bucket: str, where: dict[str, Any]) -> None:
    for uri in (f"s3://{s3_bucket}/m.safetensors", f"s3://{s3_bucket}/m", "s3://no-such-bucket-here/m.safetensors"):
        with pytest.raises(S3NotFoundError):
            load_safetensors(uri, **where)
    with pytest.raises(S3NotFoundError):
        save_safetensors(tensors(), "s3://no-such-bucket-here/m.safetensors", **where)


MEASURE = """
    import sys
    import torch
    from s3torch.client import S3ClientConfig
    from s3torch.dcp import load_safetensors, save_safetensors

    sink, source, bucket = sys.argv[1:]
    where = {"region": "us-east-1", "s3client_config": S3ClientConfig(force_path_style=True)}

    # Not ru_maxrss, which begins with what the parent held.
    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

    uri = f"s3://{bucket}/model.safetensors"
    save_safetensors({"a": torch.zeros(3_000_000)}, uri, endpoint=sink, **where)  # imports, connections
    load_safetensors(uri, endpoint=source, names=["layer.0"], **where)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    state = load_safetensors(uri, endpoint=source, **where)
    size = sum(tensor.nbytes for tensor in state.values())
    assert len(state) == 16 and all((state[f"layer.{n}"] == n).all() for n in range(16))
    print(status("VmHWM") - before - size)
    save_safetensors(state, uri, endpoint=sink, **where)
    print(status("VmHWM") - before - size)
    print(size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads the peak of memory from /proc")
@pytest.mark.slow
def test_memory_beside_the_tensors_is_small(origin: Origin, sink: Sink) -> None:
    bucket = origin.create_bucket("safetensors-memory")
    state = {f"layer.{number}": torch.full((4, 1024, 1024), float(number)) for number in range(16)}
    safetensors.torch.save_file(state, origin.root / bucket / "model.safetensors")
    arguments = [sink.endpoint, origin.endpoint, bucket]
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), *arguments]
    environment = os.environ | origin.env()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    loading, both, size = map(int, done.stdout.split())
    assert size == 256 << 20
    assert -(64 << 20) < loading < 32 << 20  # memory that the first load has freed may be used again
    assert both < 32 << 20


# ------------------------------------------------------------------------------------------------------- two processes


def state_of(rank: int, *, is_empty: bool = False) -> dict[str, Any]:
    """Make a state of a tensor that is spread over the ranks, one that is replicated, and whole ones."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    rows, columns = torch.arange(35 * 8.0).reshape(35, 8), torch.arange(6 * 9.0).reshape(6, 9)
    both = torch.arange(12.0)
    local_rows = rows.chunk(WORLD_SIZE)[rank].clone()
    local_columns = columns.chunk(WORLD_SIZE, dim=1)[rank].clone()
    state: dict[str, Any] = {
        "rows": DTensor.from_local(local_rows, mesh, [Shard(0)], shape=rows.shape, stride=rows.stride()),
        "columns": DTensor.from_local(local_columns, mesh, [Shard(1)], shape=columns.shape, stride=columns.stride()),
        "both": DTensor.from_local(both.clone(), mesh, [Replicate()]),
        "plain": torch.arange(5.0),
    }
    if is_empty:
        for value in state.values():
            (value.to_local() if isinstance(value, DTensor) else value).zero_()
    return state


def local(value: Any) -> torch.Tensor:
    found = value.to_local() if hasattr(value, "to_local") else value
    assert isinstance(found, torch.Tensor)
    return found


def be_rank(rank: int, rendezvous: str, bucket: str, where: dict[str, Any]) -> None:
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD_SIZE)
    try:
        for name in ("parts", "both"):
            uri = f"s3://{bucket}/{name}"
            writer = S3HuggingFaceStorageWriter(
                uri, save_distributed=True, enable_consolidation=name == "both", **where
            )
            dcp.save(state_of(rank), storage_writer=writer)
            loaded = state_of(rank, is_empty=True)
            dcp.load(loaded, storage_reader=S3HuggingFaceStorageReader(uri, **where))
            for key, value in state_of(rank).items():
                assert torch.equal(local(loaded[key]), local(value)), key
        whole = {"a": torch.arange(50.0), "b": torch.ones(7), "c": torch.zeros(3, 3)}
        dcp.save(whole, storage_writer=S3HuggingFaceStorageWriter(f"s3://{bucket}/whole", **where))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@needs_gloo
@pytest.mark.slow
def test_two_ranks_save_and_load(s3_bucket: str, where: dict[str, Any], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    rendezvous = (tmp_path / "rendezvous").as_uri()
    ranks = [context.Process(target=be_rank, args=(rank, rendezvous, s3_bucket, where)) for rank in range(WORLD_SIZE)]
    try:
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(timeout=200)
        assert [process.exitcode for process in ranks] == [0] * WORLD_SIZE
    finally:
        for process in ranks:
            if process.is_alive():
                process.kill()
                process.join()
    rows, columns = torch.arange(35 * 8.0).reshape(35, 8), torch.arange(6 * 9.0).reshape(6, 9)
    expected = {"rows": rows, "columns": columns, "both": torch.arange(12.0), "plain": torch.arange(5.0)}
    for name in ("parts", "both"):  # on one rank, what two have saved
        loaded = {key: torch.zeros_like(value) for key, value in expected.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = S3HuggingFaceStorageReader(f"s3://{s3_bucket}/{name}", **where)
            dcp.load(loaded, storage_reader=reader)
        assert same(loaded, expected)
    assert same(load_safetensors(f"s3://{s3_bucket}/both", **where), expected)
    assert set(load_safetensors(f"s3://{s3_bucket}/whole", **where)) == {"a", "b", "c"}
