"""A small data set of 64 images of three classes, and what torchrun tells the only rank of a job."""

import os
import warnings

from s3torch.client import S3Client

# StatefulDataLoader 0.11 asks torch for what newer versions no longer like to be asked for.
warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)

_client = S3Client("us-east-1")
for _index in range(64):
    _client.put("my-bucket", f"images/{_index:04d}-{_index % 3}", bytes([_index]) * 192)

os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
