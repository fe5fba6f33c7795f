"""The program for images in folders runs on several processes, against a server."""

from __future__ import annotations

import io
import re
import sys

import PIL.Image
import pytest
from tests.docs.torchrun import DEADLINE, torchrun

from s3torch.harness.servers import MotoServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * DEADLINE + 20),
    pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux"),
]


def test_an_epoch_goes_on_with_other_ranks_and_workers(my_bucket: MotoServer) -> None:
    client = my_bucket.boto3_client()
    for number in range(28):
        picture = io.BytesIO()
        PIL.Image.new("RGB", (20 + number, 20), (9 * number, 0, 0)).save(picture, "PNG")
        key = f"images/{'cat' if number % 2 else 'dog'}/{number}.png"
        client.put_object(Bucket="my-bucket", Key=key, Body=picture.getvalue())
    client.close()
    program = "images_ddp.py", "s3://my-bucket/images/", "s3://my-bucket/run/checkpoint.pt"
    for printed in torchrun(my_bucket, 2, *program, "--steps", "2"):
        assert printed.count("begins") == 1
        assert re.findall(r"saw (\d+)$", printed, re.MULTILINE) == ["8"]
    (printed,) = torchrun(my_bucket, 1, *program, "--workers", "2")
    assert printed.count("goes on in epoch 0") == 1
    assert re.findall(r"saw (\d+)$", printed, re.MULTILINE) == ["12"]
