"""A rank is killed after any request of a save: the previous checkpoint loads, the new one does or is not there."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.multi_process.zygote import Outcome, Save, make_state

from s3torch.client import S3ClientConfig
from s3torch.dcp import S3CheckpointCatalog, S3StorageReader
from s3torch.harness.servers._address import own_environment

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the ranks are forked"),
]

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


class Zygote:
    """The process that forks ranks."""

    def __init__(self, server: MotoServer, folder: Path) -> None:
        environment = {**own_environment(), **server.env(), "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._errors = Path(folder, "errors").open("w+")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.multi_process.zygote", str(folder)],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def run(self, save: Save) -> Outcome:
        """Run one save to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(save)) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS):
                raise TimeoutError(f"nothing from the ranks within {SECONDS:g} s:\n{self._said()}")
        line = self._process.stdout.readline()
        assert line, self._said()
        return Outcome(**json.loads(line))

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:]


@pytest.fixture(scope="module")
def zygote(moto_server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(moto_server, tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


class Runs:
    """A folder of checkpoints on moto, looked at from this process."""

    def __init__(self, server: MotoServer) -> None:
        self.bucket = server.create_bucket(f"kill-{uuid.uuid4().hex}")
        self.uri = f"s3://{self.bucket}/runs"
        config = S3ClientConfig(operation_timeout=60)
        self._options: dict[str, Any] = {
            "region": server.region,
            "endpoint": server.endpoint,
            "s3client_config": config,
        }
        self.catalog = S3CheckpointCatalog(self.uri, **self._options)

    def load(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = make_state(0)
        for tensor in (state["large"], state["small"]):
            tensor.zero_()
        dcp.load(state, storage_reader=S3StorageReader(path=f"{self.uri}/{name}", **self._options))
        return state

    def seed(self, name: str) -> int:
        """Load a checkpoint, and return which one it is; it is one as a whole."""
        found = self.load(name)
        expected = make_state(found["step"])
        assert torch.equal(found["large"], expected["large"])
        assert torch.equal(found["small"], expected["small"])
        return int(found["step"])


@pytest.fixture
def runs(moto_server: MotoServer) -> Runs:
    return Runs(moto_server)


@pytest.mark.parametrize("is_async", [False, True], ids=["save", "async_save"])
def test_a_killed_rank_never_costs_a_checkpoint(zygote: Zygote, runs: Runs, is_async: bool) -> None:
    uri = f"{runs.uri}/step-1"
    outcome = zygote.run(Save(uri, seed=1, is_async=is_async))
    assert outcome.statuses == [0, 0], outcome.errors
    assert runs.seed("step-1") == 1
    # The upload in parts and the commit are among what is broken off.
    assert {"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} <= set(outcome.requests[1])
    assert outcome.requests[0][-1] == "PutObject"
    current, seed, committed = 1, 1, 0
    for victim, requests in enumerate(outcome.requests):
        # In the background the requests are the same ones: the first, one of the middle and the last will do.
        every = range(len(requests) + 1)
        for after in (0, len(requests) // 2, len(requests)) if is_async else every:
            seed += 1
            killed = zygote.run(Save(uri, seed=seed, victim=victim, after=after, is_async=is_async))
            assert killed.statuses[victim] == -signal.SIGKILL
            survivor = killed.statuses[1 - victim]
            found = runs.seed("step-1")
            assert found in (current, seed), f"rank {victim} killed after {after} requests"
            if found == current:
                # Who is left over learns of it, and does not hang.
                assert survivor == 1, killed.errors
            else:
                # The commit is the last of the coordinator's requests.
                assert (victim, after) == (0, len(requests)), f"rank {victim} killed after {after} requests"
                committed += 1
            current = found
    assert committed == 1


def test_a_killed_first_save_does_not_exist_and_can_be_cleared_up(zygote: Zygote, runs: Runs) -> None:
    for number, (victim, after) in enumerate([(0, 1), (0, 3), (1, 2), (1, 4)]):
        outcome = zygote.run(Save(f"{runs.uri}/step-{number}", seed=number, victim=victim, after=after))
        assert outcome.statuses[victim] == -signal.SIGKILL
    assert runs.catalog.list() == []
    with pytest.raises(BaseException, match="step-1"):  # torch's CheckpointException is no Exception
        runs.load("step-1")
    outcome = zygote.run(Save(f"{runs.uri}/step-2", seed=2))
    assert outcome.statuses == [0, 0], outcome.errors
    left = runs.catalog.leftovers(timedelta(0))
    assert [item for item in left if item.upload_id is not None], "no upload was broken off"
    assert [item for item in left if item.upload_id is None], "no data was left"
    assert runs.catalog.remove_leftovers(timedelta(0)) == left
    assert runs.catalog.leftovers(timedelta(0)) == []
    assert [entry.name for entry in runs.catalog.list()] == ["step-2"]
    assert runs.seed("step-2") == 2
