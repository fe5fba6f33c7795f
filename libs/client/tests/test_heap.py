"""Objects that come and go do not make the system take pages away and give them again."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import uuid

import pytest

from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is theirs"),
    pytest.mark.usefixtures("dummy_aws_env"),
]

_OBJECTS, _SIZE = 128, 110_000
_PAGES = _OBJECTS * _SIZE // 4096

_PROGRAM = """
import resource, sys
from s3torch.client import GetRequest, S3Client, S3ClientConfig

bucket, endpoint, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(force_path_style=True))
taken = []
for epoch in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    results = list(client.get_many([GetRequest(bucket, "one", 0, size)] * count))  # all held at once in each epoch
    assert [len(result.data) for result in results] == [size] * count
    del results
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(taken))
"""


def faults(moto_server: MotoServer, **environment: str) -> int:
    """Return how many pages epochs had to get from the system, the best of some."""
    bucket = moto_server.create_bucket(f"heap-{uuid.uuid4().hex}")
    with contextlib.closing(moto_server.boto3_client()) as server:
        server.put_object(Bucket=bucket, Key="one", Body=bytes(_SIZE))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, bucket, moto_server.endpoint, str(_OBJECTS), str(_SIZE)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_the_memory_of_an_object_serves_the_next(moto_server: MotoServer) -> None:
    assert faults(moto_server) < 0.1 * _PAGES


def test_a_limit_that_the_user_has_set_stays(moto_server: MotoServer) -> None:
    assert faults(moto_server, MALLOC_TRIM_THRESHOLD_="131072") > 0.1 * _PAGES
