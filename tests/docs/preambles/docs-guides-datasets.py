"""A small data set of 64 images of three classes."""

from s3torch.client import S3Client

_client = S3Client("us-east-1")
for _index in range(64):
    _client.put("my-bucket", f"images/{_index:04d}-{_index % 3}", bytes([_index]) * 192)
