"""The examples, as a user runs them: killed and started again, and in two processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.lightning import S3LightningCheckpoint

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
DEADLINE = 180  # most of it is for imports: on a busy machine they take long
EPOCHS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * DEADLINE), pytest.mark.usefixtures("dummy_aws_env")]


def start(server: MotoServer, folder: Path, name: str, uri: str, epochs: int) -> subprocess.Popen[str]:
    env = {**os.environ, **server.env(), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), uri, "--epochs", str(epochs)]
    # Lightning leaves folders of its own where it is started.
    return subprocess.Popen(
        command, env=env, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=1
    )


def run(*arguments: Any) -> str:
    with start(*arguments) as process:
        try:
            output, _ = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    assert process.returncode == 0, output
    return output


def final(output: str) -> str:
    found = re.findall(r"loss after \d+ epochs: \d+\.\d+", output)
    assert found, output
    return str(found[0])


def wait_for(plugin: S3LightningCheckpoint, path: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not plugin.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(moto_server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run prints in the end that nobody kills; both examples train the same."""
    bucket = moto_server.create_bucket(f"whole-{os.getpid()}")
    return run(moto_server, tmp_path_factory.mktemp("whole"), "lightning_resume", f"s3://{bucket}/run", EPOCHS)


@pytest.mark.parametrize("name", ["lightning_resume", "lightning_async"])
def test_a_run_that_is_killed_ends_like_one_that_is_not(
    moto_server: MotoServer, s3_bucket: str, tmp_path: Path, whole: str, name: str
) -> None:
    plugin = S3LightningCheckpoint(moto_server.region, endpoint=moto_server.endpoint)
    for attempt in range(5):
        killed = f"s3://{s3_bucket}/killed-{attempt}"
        with start(moto_server, tmp_path, name, killed, 500) as process:  # more than it will do
            wait_for(plugin, f"{killed}/last.ckpt")
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=DEADLINE)
        if plugin.load_checkpoint(f"{killed}/last.ckpt")["epoch"] + 1 < EPOCHS:
            break
    else:
        pytest.fail("it has always gone too far before it is killed")
    resumed = run(moto_server, tmp_path, name, killed, EPOCHS)
    assert "Restored all states from the checkpoint at s3://" in resumed
    assert "Epoch" in resumed, "the progress bar"
    assert final(resumed) == final(whole)


@pytest.mark.parametrize("name", ["lightning_fsdp", "lightning_model_parallel"])
def test_two_processes_resume(moto_server: MotoServer, s3_bucket: str, tmp_path: Path, name: str) -> None:
    folder = f"s3://{s3_bucket}/run"
    run(moto_server, tmp_path, name, folder, 1)
    client = S3LightningCheckpoint(moto_server.region, endpoint=moto_server.endpoint).client
    keys = [info.key for page in client.list_objects(s3_bucket, "run/last.ckpt/") for info in page.object_info]
    assert {"run/last.ckpt/.metadata", "run/last.ckpt/meta.pt"} < set(keys)
    resumed = run(moto_server, tmp_path, name, folder, 2)
    assert "Restored all states from the checkpoint at s3://" in resumed
    assert final(resumed).startswith("loss after 2 epochs")
