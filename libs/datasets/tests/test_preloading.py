"""What a DataLoader's workers need is there before they are forked."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import multiprocessing, sys
from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset

multiprocessing.set_start_method({method!r})
config = S3ClientConfig(engine={engine!r}, profile={profile!r})
S3IterableDataset.from_prefix("s3://bucket/", region="us-east-1", s3client_config=config)
print("botocore.session" in sys.modules)
"""


def run(method: str, engine: str, profile: str | None = None) -> str:
    program = _PROGRAM.format(method=method, engine=engine, profile=profile)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
@pytest.mark.parametrize("engine", ["direct", "boto3"])
def test_forked_workers_find_the_sdk_loaded(engine: str) -> None:
    assert run("fork", engine) == "True"


def test_workers_that_are_not_forked_cost_nothing_here() -> None:
    assert run("spawn", "direct") == "False"


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
def test_what_is_wrong_is_left_to_the_first_request() -> None:
    assert run("fork", "direct", profile="no-such-profile") == "True"
