"""Saving to a server in another process, with engines that have sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.saving import all_tensors, assert_same, load_stock, save, small_state

from s3torch.client import BucketNotFoundError, S3ClientConfig, S3ConnectionError
from s3torch.dcp import S3StorageWriter

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer, Sink

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

MIB = 1024**2


@pytest.fixture(params=["direct", "boto3"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_writer(server: MotoServer, bucket: str, engine: str, **options: Any) -> S3StorageWriter:
    config = S3ClientConfig(part_size=5 * MIB, force_path_style=True, engine=engine)
    return S3StorageWriter(server.region, f"s3://{bucket}/run", config, endpoint=server.endpoint, **options)


def download(server: MotoServer, bucket: str, folder: Path) -> Path:
    client = server.boto3_client()
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        file = folder / item["Key"]
        file.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, item["Key"], str(file))
    return folder / "run"


def uploads(server: MotoServer, bucket: str) -> list[Any]:
    return list(server.boto3_client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


@pytest.mark.parametrize("threads", [1, 4])
def test_stock_torch_reads_what_arrives(
    engine: str, moto_server: MotoServer, s3_bucket: str, tmp_path: Path, threads: int
) -> None:
    state: dict[str, Any] = {name: tensor.detach() for name, tensor in all_tensors().items()} | small_state(4)
    state["very large"] = torch.randn(4, 1_500_000)
    save(state, make_writer(moto_server, s3_bucket, engine, thread_count=threads))
    assert_same(load_stock(download(moto_server, s3_bucket, tmp_path), state), state)
    assert not uploads(moto_server, s3_bucket)


def test_safetensors_arrive(engine: str, moto_server: MotoServer, s3_bucket: str, tmp_path: Path) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    state = {"large": torch.randn(4, 1_500_000), "small": torch.arange(7)}
    save(state, make_writer(moto_server, s3_bucket, engine, serialization_format="safetensors"))
    (file,) = download(moto_server, s3_bucket, tmp_path).glob("*.safetensors")
    assert_same(load_file(file), state)


def test_a_failed_save_leaves_nothing(engine: str, moto_server: MotoServer, s3_bucket: str) -> None:
    class Failing(dcp.DefaultSavePlanner):
        def resolve_data(self, write_item: Any) -> Any:
            if write_item.index.fqn == "t5":
                raise ZeroDivisionError
            return super().resolve_data(write_item)

    state = {f"t{number}": torch.zeros(3 * MIB) for number in range(6)}
    with pytest.raises(ZeroDivisionError):
        save(state, make_writer(moto_server, s3_bucket, engine, thread_count=2), planner=Failing())
    assert "Contents" not in moto_server.boto3_client().list_objects_v2(Bucket=s3_bucket)
    assert not uploads(moto_server, s3_bucket)


def test_a_missing_bucket_is_named(engine: str, moto_server: MotoServer) -> None:
    with pytest.raises(BucketNotFoundError, match="no-such-bucket-here"):
        save(small_state(), make_writer(moto_server, "no-such-bucket-here", engine))


def test_a_closed_endpoint_is_named(engine: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        config = S3ClientConfig(force_path_style=True, engine=engine, max_attempts=2)
        writer = S3StorageWriter("us-east-1", "s3://bucket/run", config, endpoint=endpoint)
        with pytest.raises(S3ConnectionError):
            save(small_state(), writer)


_MEMORY = """
    import sys
    import warnings
    from pathlib import Path

    import torch
    import torch.distributed.checkpoint as dcp

    from s3torch.client import S3ClientConfig
    from s3torch.dcp import S3StorageWriter

    def status(name):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024

    warnings.simplefilter("ignore")
    endpoint, form, threads = sys.argv[1:]
    region, bucket = "us-east-1", "bucket"
    config = S3ClientConfig(force_path_style=True)
    options = {"endpoint": endpoint, "serialization_format": form, "thread_count": int(threads)}
    warm = S3StorageWriter(region, f"s3://{bucket}/warm", config, **options)
    dcp.save({"a": torch.ones(3 << 20)}, storage_writer=warm)
    state = {f"layer {number}": torch.ones(16 << 18) for number in range(24)}
    state["views"] = torch.ones(65, 1 << 18)[1:]
    state["one"] = torch.ones(64 << 18)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    dcp.save(state, storage_writer=S3StorageWriter(region, f"s3://{bucket}/run", config, **options))
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")  # noqa: PTH110  # a constant
@pytest.mark.parametrize(("form", "threads"), [("torch_save", 1), ("torch_save", 4), ("safetensors", 1)])
def test_memory_over_the_state_is_bounded(sink: Sink, form: str, threads: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_MEMORY), sink.endpoint, form, str(threads)]
    environment = os.environ | sink.env()
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64 * MIB  # of 512 MiB


_PROCESS = """
    import sys
    import warnings

    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

    from s3torch.client import S3ClientConfig
    from s3torch.dcp import S3StorageWriter

    if __name__ == "__main__":
        warnings.simplefilter("ignore")
        endpoint, region, bucket, store = sys.argv[1:]
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        writer = S3StorageWriter(region, f"s3://{bucket}/run", S3ClientConfig(force_path_style=True), endpoint=endpoint)
        state = {"a": torch.arange(1000.0)}
        future = dcp.async_save(
            state, storage_writer=writer, async_checkpointer_type=AsyncCheckpointerType.PROCESS
        )
        state["a"].zero_()
        future.result(timeout=60)
        missing = S3StorageWriter(region, "s3://no-such-bucket-here/run", endpoint=endpoint)
        future = dcp.async_save(
            state, storage_writer=missing, async_checkpointer_type=AsyncCheckpointerType.PROCESS
        )
        try:
            future.result(timeout=60)
        except BaseException as error:
            print(type(error).__name__, "no-such-bucket-here" in str(error))
        dist.destroy_process_group()
"""


@pytest.mark.slow
def test_another_process_saves(moto_server: MotoServer, s3_bucket: str, tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed.checkpoint._async_process_executor")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_PROCESS))
    command = [
        sys.executable,
        str(script),
        moto_server.endpoint,
        moto_server.region,
        s3_bucket,
        str(tmp_path / "store"),
    ]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["CheckpointException", "True"]
    state = {"a": torch.arange(1000.0)}
    assert_same(load_stock(download(moto_server, s3_bucket, tmp_path / "down"), state), state)


@pytest.mark.slow
def test_ranks_write_under_one_attempt(moto_server: MotoServer, s3_bucket: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_RANKS))
    store = tmp_path / "store"
    arguments = [moto_server.endpoint, moto_server.region, s3_bucket, str(store)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=100) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    folder = download(moto_server, s3_bucket, tmp_path / "down")
    names = sorted(file.name for file in folder.iterdir() if file.name != ".metadata")
    assert [name.split("_")[2] for name in names] == ["0", "1"]
    assert len({name.split("_")[3] for name in names}) == 1
    assert_same(load_stock(folder, {"rank0": torch.zeros(5), "rank1": torch.zeros(5)})["rank1"], torch.full((5,), 1.0))
    # A failure of one rank is one of both, commits nothing and leaves what was there.
    assert all("ZeroDivisionError" in out for out, _ in said)


_RANKS = """
    import sys
    import warnings

    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    from s3torch.client import S3ClientConfig
    from s3torch.dcp import S3StorageWriter

    class Failing(dcp.DefaultSavePlanner):
        def resolve_data(self, write_item):
            if dist.get_rank() == 1:
                raise ZeroDivisionError
            return super().resolve_data(write_item)

    warnings.simplefilter("ignore")
    rank, endpoint, region, bucket, store = sys.argv[1:]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
    writer = S3StorageWriter(region, f"s3://{bucket}/run", S3ClientConfig(force_path_style=True), endpoint=endpoint)
    state = {f"rank{rank}": torch.full((5,), float(rank))}
    dcp.save(state, storage_writer=writer)
    writer = S3StorageWriter(region, f"s3://{bucket}/failed", S3ClientConfig(force_path_style=True), endpoint=endpoint)
    try:
        dcp.save(state, storage_writer=writer, planner=Failing())
    except BaseException as error:
        print(error)
    dist.destroy_process_group()
"""
