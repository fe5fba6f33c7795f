"""The program for tar shards runs on several processes, against a server."""

from __future__ import annotations

import io
import re
import sys
import tarfile

import pytest
from tests.docs.torchrun import DEADLINE, torchrun

from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * DEADLINE + 20),
    pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux"),
]


def shard(number: int, samples: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for index in range(samples):
            for extension, data in (("bin", bytes([number, index, 0, 1])), ("cls", b"%d" % number)):
                member = tarfile.TarInfo(f"{number}{index:03}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_ranks_with_uneven_shards_step_alike_and_may_become_more(my_bucket: MotoServer) -> None:
    client = my_bucket.boto3_client()
    for number, samples in enumerate([30, 1, 20, 3, 6]):
        client.put_object(Bucket="my-bucket", Key=f"shards/{number}.tar", Body=shard(number, samples))
    client.close()
    program = "tar_ddp.py", "s3://my-bucket/shards/", "s3://my-bucket/run/state.json"
    for ranks, arguments in ((2, ("--steps", "3")), (3, ())):
        for printed in torchrun(my_bucket, ranks, *program, *arguments):
            assert re.findall(r"saw (\d+)$", printed, re.MULTILINE) == ["12"]
