from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
import textwrap
from typing import IO, TYPE_CHECKING, Any, cast

import pytest
import torch

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import PutOptions, S3ClientConfig, S3NotFoundError
from s3torch.client.memory import MemoryStore
from s3torch.readers import S3Reader
from s3torch.writer import S3Writer

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

URI = "s3://bucket/folder/model.pt"


def test_names_and_defaults() -> None:
    parameters = inspect.signature(S3Checkpoint).parameters
    assert list(parameters) == ["region", "endpoint", "s3client_config"]
    checkpoint = S3Checkpoint("eu-north-1", "http://127.0.0.1:9")
    assert (checkpoint.region, checkpoint.endpoint) == ("eu-north-1", "http://127.0.0.1:9")
    assert "eu-north-1" in repr(checkpoint)
    assert S3Checkpoint().region is None


def test_reader_and_writer_are_files_for_torch(checkpoint: S3Checkpoint) -> None:
    state = {"weight": torch.randn(500, 30)}
    with checkpoint.writer(URI) as writer:
        assert isinstance(writer, S3Writer)
        torch.save(state, cast("IO[bytes]", writer))
    with checkpoint.reader(URI) as reader:
        assert isinstance(reader, S3Reader)
        assert torch.equal(torch.load(cast("IO[bytes]", reader))["weight"], state["weight"])


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "http://bucket/key", "s3://", "s3:///key", "s3://bucket", "s3://bucket/"]
)
def test_bad_uris_fail_before_any_request(checkpoint: S3Checkpoint, engine: Any, uri: str) -> None:
    for call in (checkpoint.reader, checkpoint.writer, checkpoint.load, lambda uri: checkpoint.save({}, uri)):
        with pytest.raises(ValueError, match="s3://bucket/key"):
            call(uri)
    assert engine.gets == []


def test_a_uri_that_is_no_string_is_a_type_error(checkpoint: S3Checkpoint) -> None:
    for call in (checkpoint.reader, checkpoint.writer, checkpoint.load):
        with pytest.raises(TypeError):
            call(None)  # type: ignore[arg-type]  # the mistake under test


def test_a_save_that_fails_leaves_the_old_checkpoint(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    checkpoint.save({"epoch": 1}, URI)
    with pytest.raises(AttributeError):
        checkpoint.save({"weights": torch.zeros(3_000_000), "mistake": lambda: None}, URI)
    assert checkpoint.load(URI) == {"epoch": 1}
    assert not store.uploads("bucket")


def test_the_store_s_error_leaves_save(checkpoint: S3Checkpoint) -> None:
    with pytest.raises(S3NotFoundError):
        checkpoint.save({"a": torch.zeros(3_000_000), "b": torch.zeros(3_000_000)}, "s3://no-such-bucket/model.pt")


def test_options_of_the_client_reach_the_object(store: MemoryStore, engine: Any) -> None:
    options = PutOptions(storage_class="STANDARD_IA", metadata={"run": "7"})
    config = S3ClientConfig(engine=lambda context: engine, put_options=options)
    S3Checkpoint(s3client_config=config).save({}, URI)
    assert store.find("bucket", "folder/model.pt").options == options


@pytest.fixture(params=["direct", "boto3"])
def remote(request: pytest.FixtureRequest, moto_server: MotoServer, dummy_aws_env: None) -> S3Checkpoint:
    config = S3ClientConfig(part_size=5 << 20, force_path_style=True, engine=request.param)
    return S3Checkpoint(moto_server.region, moto_server.endpoint, config)


def test_there_and_back_again(remote: S3Checkpoint, moto_server: MotoServer, s3_bucket: str) -> None:
    state: dict[str, Any] = {f"layer{number}": torch.randn(number * 25_000 + 1) for number in range(25)}
    state["twice"] = state["layer24"]
    uri = f"s3://{s3_bucket}/a folder/model ü.pt"
    with moto_server.recording() as requests:
        remote.save(state, uri)
        loaded = remote.load(uri)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert loaded["twice"].data_ptr() == loaded["layer24"].data_ptr()
    agents = {request.headers["user-agent"] for request in requests if s3_bucket in request.path}
    assert all("(md/checkpoint)" in agent for agent in agents)
    plain = io.BytesIO(
        moto_server.boto3_client().get_object(Bucket=s3_bucket, Key="a folder/model ü.pt")["Body"].read()
    )
    assert torch.equal(torch.load(plain)["layer3"], state["layer3"])


def test_a_missing_checkpoint(remote: S3Checkpoint, s3_bucket: str) -> None:
    with pytest.raises(S3NotFoundError):
        remote.load(f"s3://{s3_bucket}/none.pt")


_MEMORY = """
    import sys, torch
    from s3torch.checkpoint import S3Checkpoint
    from s3torch.client import S3ClientConfig

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

    def reset():
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")

    endpoint, region, bucket = sys.argv[1:]
    checkpoint = S3Checkpoint(region, endpoint, S3ClientConfig(force_path_style=True))
    small, large = f"s3://{bucket}/small", f"s3://{bucket}/large"
    checkpoint.save({"warm": torch.ones(3_000_000)}, small)
    checkpoint.load(small)
    state = {f"layer{number}": torch.ones(5_000_000) for number in range(4)}
    size = 4 * 20_000_000
    reset()
    before = status("VmRSS")
    checkpoint.save(state, large)
    print(status("VmHWM") - before)
    del state
    reset()
    before = status("VmRSS")
    state = checkpoint.load(large)
    print((status("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")  # noqa: PTH110  # a constant
def test_memory_beside_the_tensors_is_bounded(moto_server: MotoServer, s3_bucket: str, dummy_aws_env: None) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_MEMORY), moto_server.endpoint, moto_server.region, s3_bucket]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    over_save, load_ratio = map(float, done.stdout.split())
    assert over_save <= 64 << 20
    assert load_ratio <= 1.1
