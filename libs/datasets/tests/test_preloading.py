"""What a DataLoader's workers need is there before they are forked."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

_PROGRAM = """
import multiprocessing, sys
from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset, S3TarDataset

multiprocessing.set_start_method({method!r})
config = S3ClientConfig(engine={engine!r}, profile={profile!r})
{dataset}, region="us-east-1", s3client_config=config)
print("botocore.session" in sys.modules)
"""


_ITERABLE = 'S3IterableDataset.from_prefix("s3://bucket/"'
_TAR = 'S3TarDataset.from_objects("s3://bucket/0.tar"'


def run(method: str, engine: str, profile: str | None = None, dataset: str = _ITERABLE) -> str:
    return execute(_PROGRAM.format(method=method, engine=engine, profile=profile, dataset=dataset)).stdout.strip()


def execute(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
@pytest.mark.parametrize("engine", ["direct", "boto3"])
def test_forked_workers_find_the_sdk_loaded(engine: str) -> None:
    assert run("fork", engine) == "True"


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
def test_so_do_those_of_tar_shards() -> None:
    assert run("fork", "direct", dataset=_TAR) == "True"


def test_workers_that_are_not_forked_cost_nothing_here() -> None:
    assert run("spawn", "direct") == "False"


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
def test_what_is_wrong_is_left_to_the_first_request() -> None:
    assert run("fork", "direct", profile="no-such-profile") == "True"


_FORKED = """
import botocore.session, multiprocessing
from s3torch.datasets import S3IterableDataset

multiprocessing.set_start_method("fork")
dataset = S3IterableDataset.from_prefix("s3://bucket/", region="eu-west-1")

def fail(*_, **__):
    raise AssertionError("it was made already")

botocore.session.Session.create_client = fail

def ask():
    print(dataset._client.engine.endpoint)

worker = multiprocessing.Process(target=ask)
worker.start()
worker.join(30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not fork")
def test_forked_workers_find_what_names_addresses_made() -> None:
    done = execute(_FORKED)
    assert done.stdout.strip() == "https://s3.eu-west-1.amazonaws.com", done.stderr
