"""Checkpoints between jobs of several sizes, each started by torchrun."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.multi_process.states import check_loaded, whole_state

from s3torch.client import S3ClientConfig
from s3torch.dcp import S3StorageReader, S3StorageWriter

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
]

ROOT = Path(__file__).parents[2]
SECONDS = 180  # of which four ranks that import torch on two busy cores take most

RunJob: TypeAlias = Callable[..., None]


@pytest.fixture
def run_job(moto_server: MotoServer, tmp_path: Path) -> RunJob:
    """Runs a job on some ranks to its end."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **moto_server.env(), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}

    def run(ranks: int, job: str, *, saved: str = "", uri: str = "") -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += [str(Path(__file__).with_name("worker.py")), job, saved, uri, str(tmp_path)]
        with Path(tmp_path, "output").open("w+") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(SECONDS)
            finally:
                # The agent and its ranks are one group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
            output.seek(0)
            assert status == 0, output.read()[-6000:]

    return run


@pytest.fixture
def options(moto_server: MotoServer) -> dict[str, Any]:
    """What leads this process to the store."""
    return {
        "region": moto_server.region,
        "endpoint": moto_server.endpoint,
        "s3client_config": S3ClientConfig(operation_timeout=60),
    }


def test_jobs_of_any_size_load_what_others_saved(
    run_job: RunJob, moto_server: MotoServer, options: dict[str, Any], tmp_path: Path
) -> None:
    bucket = moto_server.create_bucket(f"multi-process-{uuid.uuid4().hex}")
    four, two, one = (f"s3://{bucket}/from-{name}" for name in ("four", "two", "one"))
    run_job(4, "save", uri=four)
    run_job(2, "load and save", saved=four, uri=two)
    for uri in (four, two):
        load_alone(uri, options, tmp_path)
    save_alone(one, options, tmp_path)
    run_job(4, "load", saved=f"{two},{one}")


def load_alone(uri: str, options: dict[str, Any], folder: Path) -> None:
    """Load in this process, without a process group, into plain tensors."""
    for name, seed in (("plain", 1), ("async", 2), ("prefixed", 3)):
        state = whole_state(0)
        dcp.load(state, storage_reader=S3StorageReader(path=f"{uri}/{name}", **options))
        check_loaded(state, seed)
    expected = torch.load(folder / f"{uri.rpartition('/')[2]}.pt", weights_only=True)["model"]
    model = {"model": {name: torch.zeros_like(tensor) for name, tensor in expected.items()}}
    dcp.load(model, storage_reader=S3StorageReader(path=f"{uri}/fsdp", **options))
    for name, tensor in expected.items():
        assert torch.equal(model["model"][name], tensor), name


def save_alone(uri: str, options: dict[str, Any], folder: Path) -> None:
    """Save in this process what the jobs save."""
    for name, seed in (("plain", 1), ("async", 2), ("prefixed", 3)):
        dcp.save(whole_state(seed), storage_writer=S3StorageWriter(path=f"{uri}/{name}", **options))
    trained = torch.load(folder / "from-two.pt", weights_only=True)
    dcp.save(trained, storage_writer=S3StorageWriter(path=f"{uri}/fsdp", **options))
    torch.save(trained, folder / "from-one.pt")
