"""The programs for distributed checkpoints run on several processes, against a server."""

from __future__ import annotations

import re
import sys

import pytest
from tests.docs.torchrun import DEADLINE, torchrun

from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * DEADLINE + 20),
    pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux"),
]


def test_ranks_may_change_between_saving_and_loading(my_bucket: MotoServer) -> None:
    uri = "s3://my-bucket/run/step-100"
    for printed in torchrun(my_bucket, 2, "dcp_ranks.py", uri, "save"):
        assert printed.count("save done") == 1
    (printed,) = torchrun(my_bucket, 1, "dcp_ranks.py", uri, "load")
    assert printed.count("load done") == 1


def losses(printed: str) -> dict[int, str]:
    return {int(step): loss for step, loss in re.findall(r"^rank \d step (\d+) loss (\S+)$", printed, re.MULTILINE)}


def test_fsdp2_goes_on_from_the_latest_checkpoint(my_bucket: MotoServer) -> None:
    whole = [losses(printed) for printed in torchrun(my_bucket, 2, "dcp_fsdp2.py", "s3://my-bucket/fsdp2")]
    assert [sorted(of_rank) for of_rank in whole] == [[1, 2, 3, 4, 5, 6]] * 2
    client = my_bucket.boto3_client()
    # As if the job had been killed before it could commit its last checkpoint.
    client.delete_object(Bucket="my-bucket", Key="fsdp2/step-6/.metadata")
    client.close()
    again = torchrun(my_bucket, 2, "dcp_fsdp2.py", "s3://my-bucket/fsdp2")
    for printed, before in zip(again, whole, strict=True):
        assert printed.count("goes on after step 4") == 1
        assert losses(printed) == {step: before[step] for step in (5, 6)}
