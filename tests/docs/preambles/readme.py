"""A small data set, and the server and bucket that the fixtures would give."""

import os
from types import SimpleNamespace

import torch.distributed as dist

from s3torch.client import S3Client

_client = S3Client("us-east-1")
for _index in range(24):
    _client.put("my-bucket", f"train/{_index:04d}.bin", bytes([_index]) * 64)
moto_server = SimpleNamespace(region="us-east-1", endpoint=os.environ["AWS_ENDPOINT_URL_S3"])
s3_bucket = "my-bucket"
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
