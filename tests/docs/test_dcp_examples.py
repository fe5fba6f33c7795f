"""The programs for distributed checkpoints run on several processes, against a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s3torch.harness.servers import MotoServer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
# Most of it is for imports: on a busy machine they take long.
DEADLINE = 180

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * DEADLINE + 20),
    pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux"),
]


def torchrun(server: MotoServer, ranks: int, program: str, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
    env |= {**server.env(), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    env |= {"NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    finished = subprocess.run(
        [*launcher, str(EXAMPLES / program), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_ranks_may_change_between_saving_and_loading(my_bucket: MotoServer) -> None:
    uri = "s3://my-bucket/run/step-100"
    assert torchrun(my_bucket, 2, "dcp_ranks.py", uri, "save").count("save done") == 2
    assert torchrun(my_bucket, 1, "dcp_ranks.py", uri, "load").count("load done") == 1


def losses(printed: str) -> dict[int, str]:
    return {int(step): loss for step, loss in re.findall(r"rank 0 step (\d+) loss (\S+)", printed)}


def test_fsdp2_goes_on_from_the_latest_checkpoint(my_bucket: MotoServer) -> None:
    whole = losses(torchrun(my_bucket, 2, "dcp_fsdp2.py", "s3://my-bucket/fsdp2"))
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    client = my_bucket.boto3_client()
    # As if the job had been killed before it could commit its last checkpoint.
    client.delete_object(Bucket="my-bucket", Key="fsdp2/step-6/.metadata")
    client.close()
    printed = torchrun(my_bucket, 2, "dcp_fsdp2.py", "s3://my-bucket/fsdp2")
    assert printed.count("goes on after step 4") == 2
    assert losses(printed) == {step: whole[step] for step in (5, 6)}
