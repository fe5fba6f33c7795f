"""Scenarios of distributed checkpoints on a server that runs anywhere: everything works, is counted and checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from s3torch.harness.bench.contents import TRIED, WrongBytesError, check_uploaded
from s3torch.harness.bench.place import BUCKET, Place
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenario import Scenario, Server
from s3torch.harness.bench.scenarios.dcp import SCENARIOS
from s3torch.harness.servers import MotoServer

# Each subject is a process that imports torch's distributed checkpoints.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1024 * 1024


def scenario(name: str, *entries: str) -> Scenario:
    found = next(each for each in SCENARIOS if each.name == name)
    chosen = tuple(entry for entry in found.entries if entry.name in entries)
    assert len(chosen) == len(entries)
    return replace(found, server=Server.MOTO, entries=chosen)


def test_loads_a_part_of_its_own_checkpoint() -> None:
    with Runner(Settings(repeat=1, quick=True)) as runner:
        outcome = runner.run(scenario("dcp-partial", "s3torch, dcp.load of its own"))
    (measured,) = outcome.measured
    assert measured.failure is None
    assert measured.size == 4 * 32 * MIB // 64
    (verdict,) = outcome.verdicts
    assert verdict.is_met
    assert measured.sent is not None
    assert measured.sent >= measured.size


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_another_checkpoint_than_was_to_be_saved_is_noticed() -> None:
    import torch
    import torch.distributed.checkpoint as dcp

    from s3torch.client import S3ClientConfig
    from s3torch.dcp import S3StorageWriter

    with MotoServer() as server:
        server.create_bucket(BUCKET)
        place = Place(server.endpoint, server.endpoint, client=server.boto3_client())
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.env().items():
                patch.setenv(name, value)
            state = {"layer.0.weight": torch.arange(256.0), "layer.1.weight": torch.arange(256.0)}
            config = S3ClientConfig(force_path_style=True)
            dcp.save(state, storage_writer=S3StorageWriter(server.region, f"s3://{BUCKET}/{TRIED}", config))
        with pytest.raises(WrongBytesError):
            check_uploaded(place, {"tensors": 2, "tensor_size": 1024})
