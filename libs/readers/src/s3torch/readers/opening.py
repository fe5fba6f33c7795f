"""Opening an object as a reader, over any client."""

from __future__ import annotations

from typing import Any

from s3torch.client import GetObjectStream, HeadObjectResult, ObjectInfo, S3Client
from s3torch.readers.protocol import S3ReaderConstructorProtocol
from s3torch.readers.reader import S3Reader
from s3torch.readers.sequential import SequentialS3Reader

__all__ = ["ReaderClient", "open_reader"]


class _ObjectStreams:
    """Opens streams over one object; what the first one learns of it holds for the others."""

    __slots__ = ("_bucket", "_client", "_info", "_key", "_last")

    clips_ranges = True

    def __init__(self, client: S3Client, bucket: str, key: str, info: ObjectInfo | HeadObjectResult | None) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._info = info
        self._last: GetObjectStream | None = None

    def __call__(self, start: int | None = None, end: int | None = None) -> GetObjectStream:
        """Open a range; sends nothing yet."""
        if self._info is None and self._last is not None:
            self._learn(self._last)
        stream = self._client.get(self._bucket, self._key, start=start, end=end, object_info=self._info)
        if self._info is None:
            self._last = stream
        return stream

    def object_info(self) -> ObjectInfo | HeadObjectResult:
        """Return what is known of the object, asking the store only where nothing is."""
        if self._info is None and self._last is not None:
            self._learn(self._last)
        if self._info is None:
            self._info = self._client.head_object(self._bucket, self._key)
        return self._info

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the object's name and what is known of it: the client pickles as its configuration."""
        if self._info is None and self._last is not None:
            self._learn(self._last)
        return type(self), (self._client, self._bucket, self._key, self._info)

    def _learn(self, stream: GetObjectStream) -> None:
        if stream.etag is not None:  # a response came, so the size costs no request
            self._info = HeadObjectResult(stream.etag, stream.size, 0)
            self._last = None


def open_reader(
    client: S3Client,
    bucket: str,
    key: str,
    *,
    object_info: ObjectInfo | HeadObjectResult | None = None,
    reader_constructor: S3ReaderConstructorProtocol | None = None,
) -> S3Reader:
    """Open an object for reading; sends nothing yet.

    Args:
        client: Whose connections to use.
        bucket: The object's bucket.
        key: The object's key.
        object_info: What a listing or HEAD told; saves a request, and pins the ETag.
        reader_constructor: How to read, from `S3ReaderConstructor`; None is sequential.

    Returns:
        The reader.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The bucket or the key is empty.
    """
    streams = _ObjectStreams(client, bucket, key, object_info)
    if reader_constructor is None:
        return SequentialS3Reader(bucket, key, streams.object_info, streams)
    if not callable(reader_constructor):
        raise TypeError(f"reader_constructor must be callable, got {type(reader_constructor).__name__}")
    return reader_constructor(bucket=bucket, key=key, get_object_info=streams.object_info, get_stream=streams)


class ReaderClient(S3Client):
    """An `S3Client` that opens objects as readers."""

    def get_object(
        self,
        bucket: str,
        key: str,
        *,
        object_info: ObjectInfo | HeadObjectResult | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
    ) -> S3Reader:
        """Open an object for reading; sends nothing yet. Arguments and errors are those of `open_reader`."""
        return open_reader(self, bucket, key, object_info=object_info, reader_constructor=reader_constructor)
