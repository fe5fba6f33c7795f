"""The strategies, in two processes (gloo) on a server; `sharding_program` has the scenarios."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s3torch.harness.servers._address import own_environment

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

PROGRAM = Path(__file__).with_name("sharding_program.py")
SCENARIOS = [
    node.name
    for node in ast.parse(PROGRAM.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and any(getattr(mark, "id", "") == "scenario" for mark in node.decorator_list)
]
DEADLINE = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEADLINE + 30)]


@pytest.fixture(scope="module")
def outcomes(moto_server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Runs all scenarios, and tells what came of each in each process."""
    local = tmp_path_factory.mktemp("sharding")
    bucket = moto_server.create_bucket(f"sharding-{os.getpid()}")
    env = {**own_environment(), **moto_server.env(), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(PROGRAM), f"s3://{bucket}/run", str(local)]
    with (local / "output").open("w+", encoding="utf-8") as output:
        with subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.terminate()  # the launcher ends its processes
        output.seek(0)
        text = output.read()
    files = [local / f"outcomes-{rank}.json" for rank in range(2)]
    if not all(file.exists() for file in files):
        pytest.fail(text)
    print(text[-4000:])
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {name: [each.get(name, "did not get that far") for each in found] for name in SCENARIOS}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(outcomes: dict[str, list[str]], name: str) -> None:
    for rank, outcome in enumerate(outcomes[name]):
        assert not outcome, f"process {rank}:\n{outcome}"
