"""Scenarios of distributed checkpoints on a server that runs anywhere: everything works, is counted and checked."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from s3torch.harness.bench import runner as runner_module
from s3torch.harness.bench.contents import TRIED, WrongBytesError, check_uploaded
from s3torch.harness.bench.environments import WORKSPACE
from s3torch.harness.bench.place import BUCKET, Place
from s3torch.harness.bench.process import SubjectProcess
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenario import Scenario, Server
from s3torch.harness.bench.scenarios.dcp import SCENARIOS
from s3torch.harness.bench.scenarios.large import SCENARIOS as LARGE_SCENARIOS
from s3torch.harness.bench.scenarios.torch_files import SCENARIOS as FILE_SCENARIOS
from s3torch.harness.bench.subjects.measure import Run
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


def test_a_file_that_is_none_is_noticed() -> None:
    with MotoServer() as server:
        server.create_bucket(BUCKET)
        client = server.boto3_client()
        client.put_object(Bucket=BUCKET, Key=TRIED, Body=b"not what torch writes")
        place = Place(server.endpoint, server.endpoint, client=client)
        with pytest.raises(WrongBytesError, match=r"cannot be loaded .21 bytes, the first of them b'not what torch w'"):
            check_uploaded(place, {"tensors": 2, "tensor_size": 1024})


@pytest.mark.parametrize("environment", [WORKSPACE, "peer"])
def test_wrong_bytes_of_a_peer_end_only_the_peer(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among ours nothing else matters then."""
    (saving,) = (each for each in FILE_SCENARIOS if each.name == "torch-save")
    entry = next(each for each in saving.entries if each.environment == WORKSPACE and each.is_remote)
    writes_zeros = replace(entry, subject="connector:write", environment=environment)
    # A peer that needs no environment of its own, as ours is here already.
    monkeypatch.setattr(runner_module, "interpreter", lambda _: sys.executable)
    with Runner(Settings(repeat=1, quick=True)) as runner:
        wrong = replace(saving, server=Server.MOTO, entries=(writes_zeros,))
        if environment == WORKSPACE:
            with pytest.raises(WrongBytesError, match="cannot be loaded"):
                runner.run(wrong)
        else:
            (measured,) = runner.run(wrong).measured
            assert "cannot be loaded" in str(measured.failure)


class SpoiltLater(SubjectProcess):
    """A subject whose bytes are right when it is tried, and wrong in its turn."""

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        found = super().run(check=check, spend=spend)
        return found if check else replace(found, crc=found.crc ^ 1)


@pytest.mark.parametrize("environment", [WORKSPACE, "peer"])
def test_so_do_those_of_its_turns(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (reading,) = (each for each in LARGE_SCENARIOS if each.name == "get-read")
    entry = next(each for each in reading.entries if each.subject.startswith("connector:"))
    monkeypatch.setattr(runner_module, "interpreter", lambda _: sys.executable)
    entries = (replace(entry, environment=environment), replace(entry, name="another", environment=environment))
    with Runner(Settings(repeat=1, quick=True), launch=SpoiltLater) as runner:
        spoilt = replace(reading, server=Server.MOTO, entries=entries)
        if environment == WORKSPACE:
            with pytest.raises(WrongBytesError, match="CRC-32"):
                runner.run(spoilt)
        else:
            assert ["CRC-32" in str(each.failure) for each in runner.run(spoilt).measured] == [True, True]
