"""`S3Client`: the verbs, over any engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from s3torch.client.config import S3ClientConfig
from s3torch.client.copying import copy_object
from s3torch.client.engines import make_engine
from s3torch.client.errors import S3Exception
from s3torch.client.paging import Paging
from s3torch.client.parallel import read_into, read_range
from s3torch.client.protocols import Engine, EngineContext
from s3torch.client.stream import GetObjectStream
from s3torch.client.upload import PutObjectStream, put_object
from s3torch.client.user_agent import UserAgent
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    ObjectInfo,
    PutOptions,
    PutResult,
    UploadInfo,
)
from s3torch.client.window import get_many

if TYPE_CHECKING:
    from typing_extensions import Self

    from s3torch.client.cache import DiskCache

__all__ = ["S3Client"]

_DELETE_BATCH = 1000  # keys in one DeleteObjects request, by its API page


class S3Client:
    """S3's verbs over an engine.

    A client holds no connection until it is used, can be shared by threads, survives a fork, and pickles as its
    configuration.

    Args:
        region: Region of the buckets, such as ``us-east-1``; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes ``AWS_ENDPOINT_URL_S3``, the profile's, or Amazon's.
        user_agent: What the client calls itself; None gives the default.
        s3client_config: Options; None gives the defaults.
    """

    def __init__(
        self,
        region: str | None = None,
        *,
        endpoint: str | None = None,
        user_agent: UserAgent | None = None,
        s3client_config: S3ClientConfig | None = None,
    ) -> None:
        _check_optional_str("region", region)
        _check_optional_str("endpoint", endpoint)
        if s3client_config is not None and not isinstance(s3client_config, S3ClientConfig):
            raise TypeError(f"s3client_config must be an S3ClientConfig or None, got {type(s3client_config).__name__}")
        self._region = region
        self._endpoint = endpoint
        self._user_agent = user_agent or UserAgent()
        self._config = s3client_config or S3ClientConfig()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine, made when first used."""
        if self._engine is None:
            self._engine = make_engine(EngineContext(self._region, self._endpoint, str(self._user_agent), self._config))
        return self._engine

    def preload(self) -> None:
        """Load what the first request would load: the SDK's modules, its description of S3, the client's settings.

        No engine is made, no store is asked. It takes some tenths of a second, once in a process, and some
        milliseconds, once for each configuration; processes that are forked afterwards have it, too. What is wrong with
        the configuration is left to the first request to say.
        """
        with contextlib.suppress(Exception):
            if self._config.engine == "boto3":
                import boto3  # noqa: F401  # to have it loaded
            elif self._config.engine == "direct":
                from s3torch.client.direct.identity import Identity

                context = EngineContext(self._region, self._endpoint, str(self._user_agent), self._config)
                Identity(context).preload()

    @property
    def region(self) -> str:
        """The region requests are made for."""
        return self._region if self._region is not None else self.engine.region

    @property
    def endpoint(self) -> str | None:
        """The endpoint given, if any."""
        return self._endpoint

    @property
    def s3client_config(self) -> S3ClientConfig:
        """The options."""
        return self._config

    @property
    def cache(self) -> DiskCache | None:
        """The cache of what is read, if ``s3client_config`` names one; its ``stats()`` tell what it does."""
        if self._config.cache is None:
            return None
        from s3torch.client.cache import cache_for

        return cache_for(self._config.cache)

    @property
    def user_agent_prefix(self) -> str:
        """What opens the user agent of every request."""
        return str(self._user_agent)

    def get(
        self,
        bucket: str,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        object_info: ObjectInfo | HeadObjectResult | None = None,
    ) -> GetObjectStream:
        """Open an object, or a range of it, as a stream; sends nothing yet.

        Args:
            bucket: The bucket.
            key: The key.
            start: First byte; None is 0.
            end: Byte after the last; None is the object's end.
            object_info: What a listing or HEAD told; saves a request, and pins the ETag.

        Returns:
            The stream.
        """
        _check_bucket_key(bucket, key)
        return GetObjectStream(self.engine, self._config, _request(bucket, key, start, end, object_info))

    def read(
        self,
        bucket: str,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        object_info: ObjectInfo | HeadObjectResult | None = None,
    ) -> bytes:
        """Read an object, or a range of it, large ones in parallel.

        Args:
            bucket: The bucket.
            key: The key.
            start: First byte; None is 0.
            end: Byte after the last; None is the object's end.
            object_info: What a listing or HEAD told; saves a request, and pins the ETag.

        Returns:
            The bytes.
        """
        _check_bucket_key(bucket, key)
        data = read_range(self.engine, self._config, _request(bucket, key, start, end, object_info)).data
        return data if isinstance(data, bytes) else bytes(data)

    def read_into(
        self,
        bucket: str,
        key: str,
        buffer: bytearray | memoryview,
        *,
        start: int = 0,
        object_info: ObjectInfo | HeadObjectResult | None = None,
    ) -> None:
        """Fill ``buffer`` with an object's bytes from ``start`` on, large ones in parallel, without a copy.

        Args:
            bucket: The bucket.
            key: The key.
            buffer: Writable, contiguous memory; filled completely, or an error is raised.
            start: First byte.
            object_info: What a listing or HEAD told; lets all parts start at once, and pins the ETag.
        """
        _check_bucket_key(bucket, key)
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError(f"the buffer must be writable, got a read-only {type(buffer).__name__}")
        read_into(self.engine, self._config, _request(bucket, key, start, None, object_info), view)

    @overload
    def get_many(
        self,
        requests: Iterable[GetRequest],
        *,
        window: int | None = None,
        window_bytes: int | None = None,
        return_errors: Literal[False] = False,
    ) -> Iterator[GetResult]: ...

    @overload
    def get_many(
        self,
        requests: Iterable[GetRequest],
        *,
        window: int | None = None,
        window_bytes: int | None = None,
        return_errors: Literal[True],
    ) -> Iterator[GetResult | S3Exception]: ...

    def get_many(
        self,
        requests: Iterable[GetRequest],
        *,
        window: int | None = None,
        window_bytes: int | None = None,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """Fetch many objects or ranges, several at once, and yield them in the order asked.

        Args:
            requests: What to read; pulled as the window moves.
            window: Requests in flight at most, and as many again that wait to be delivered in order; None is
                ``s3client_config.window``.
            window_bytes: Bytes in flight or undelivered at most; None is ``s3client_config.window_bytes``.
            return_errors: Yield a request's error at its place and go on, rather than raise it.

        Returns:
            An iterator of results, one for each request; closing it ends all that is in flight.
        """
        window = self._config.window if window is None else window
        window_bytes = self._config.window_bytes if window_bytes is None else window_bytes
        if (window is not None and window < 1) or window_bytes < 1:
            raise ValueError(f"window and window_bytes must be at least 1, got {window} and {window_bytes}")
        return get_many(self.engine, requests, window=window, window_bytes=window_bytes, return_errors=return_errors)

    def head_object(self, bucket: str, key: str) -> HeadObjectResult:
        """Return an object's metadata.

        Args:
            bucket: The bucket.
            key: The key.
        """
        _check_bucket_key(bucket, key)
        return self.engine.head(bucket, key)

    def list_objects(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        max_keys: int = 1000,
        *,
        start_after: str | None = None,
    ) -> Iterator[ListObjectResult]:
        """List a bucket, page by page, each page fetched when asked for.

        Args:
            bucket: The bucket.
            prefix: Only keys that begin so.
            delimiter: Keys that share what lies between the prefix and this are one common prefix.
            max_keys: Keys in a page, 1 to 1,000.
            start_after: Only keys after this one.

        Returns:
            An iterator of pages. It raises `ProtocolError` rather than give a page again, or leave out the rest, where
            the store does not say rightly how the list goes on.
        """
        _check_bucket(bucket)
        for name, value in (("prefix", prefix), ("delimiter", delimiter)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, got {type(value).__name__}")
        if not 1 <= max_keys <= 1000:
            raise ValueError(f"max_keys must be 1 to 1000, got {max_keys}")
        return self._pages(bucket, prefix, delimiter, max_keys, start_after)

    def _pages(
        self, bucket: str, prefix: str, delimiter: str, max_keys: int, start_after: str | None
    ) -> Iterator[ListObjectResult]:
        paging: Paging[str] = Paging("ListObjectsV2", bucket, prefix)
        token: str | None = None
        while True:
            page, token = self.engine.list_page(
                bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
            )
            token = paging.turn(token, page.object_info[0].key if page.object_info else None)
            yield page
            if token is None:
                return

    def put(
        self, bucket: str, key: str, data: bytes | bytearray | memoryview, *, options: PutOptions | None = None
    ) -> PutResult:
        """Write an object, in one request or, above ``part_size``, in parts sent at once, without a copy.

        Args:
            bucket: The bucket.
            key: The key.
            data: The object's bytes.
            options: Storage class, metadata and so on; None is ``s3client_config.put_options``.

        Returns:
            What the store said of the object.
        """
        _check_bucket_key(bucket, key)
        options = self._config.put_options if options is None else options
        return put_object(self.engine, self._config, bucket, key, data, options)

    def put_stream(self, bucket: str, key: str, *, options: PutOptions | None = None) -> PutObjectStream:
        """Open an object for writing; sends nothing yet, and nothing is visible before it is closed.

        Args:
            bucket: The bucket.
            key: The key.
            options: Storage class, metadata and so on; None is ``s3client_config.put_options``.

        Returns:
            The stream.
        """
        _check_bucket_key(bucket, key)
        return PutObjectStream(self.engine, self._config, bucket, key, options)

    def delete_object(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error, as in S3.

        Args:
            bucket: The bucket.
            key: The key.
        """
        _check_bucket_key(bucket, key)
        self.engine.delete(bucket, key)

    def delete_objects(self, bucket: str, keys: Iterable[str]) -> list[DeleteError]:
        """Delete many objects, 1,000 in a request.

        Args:
            bucket: The bucket.
            keys: The keys.

        Returns:
            Those that could not be deleted, and why.
        """
        _check_bucket(bucket)
        errors: list[DeleteError] = []
        batch: list[str] = []
        for key in keys:
            _check_bucket_key(bucket, key)
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                errors += self.engine.delete_many(bucket, batch)
                batch = []
        if batch:
            errors += self.engine.delete_many(bucket, batch)
        return errors

    def list_uploads(self, bucket: str, prefix: str = "") -> Iterator[UploadInfo]:
        """List the multipart uploads that are neither completed nor aborted: their parts take up space, unseen.

        Args:
            bucket: The bucket.
            prefix: Only those of keys that begin so.

        Returns:
            An iterator of the uploads; each page is fetched when asked for, and checked as those of `list_objects`.
        """
        _check_bucket(bucket)
        return self._uploads(bucket, prefix)

    def _uploads(self, bucket: str, prefix: str) -> Iterator[UploadInfo]:
        paging: Paging[UploadInfo] = Paging("ListMultipartUploads", bucket, prefix)
        after: UploadInfo | None = None
        while True:
            page, after = self.engine.list_uploads(bucket, prefix, after=after)
            after = paging.turn(after, page[0] if page else None)
            yield from page
            if after is None:
                return

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop a multipart upload and its parts; one that is not there is no error.

        Args:
            bucket: The bucket.
            key: The object it was to become.
            upload_id: The upload's id.
        """
        _check_bucket_key(bucket, key)
        self.engine.abort_multipart(bucket, key, upload_id)

    def copy_object(self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str) -> CopyResult:
        """Copy an object within the store; above 5 GiB in parts.

        Args:
            src_bucket: The source's bucket.
            src_key: The source's key.
            dst_bucket: The copy's bucket.
            dst_key: The copy's key.

        Returns:
            What the store said of the copy.
        """
        _check_bucket_key(src_bucket, src_key)
        _check_bucket_key(dst_bucket, dst_key)
        return copy_object(self.engine, GetRequest(src_bucket, src_key), dst_bucket, dst_key, self._config.put_options)

    def close(self) -> None:
        """End all connections; the client can be used again afterwards."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as configuration: no connection, no credential."""
        return {**self.__dict__, "_engine": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(region={self._region!r}, endpoint={self._endpoint!r})"


def _request(
    bucket: str, key: str, start: int | None, end: int | None, info: ObjectInfo | HeadObjectResult | None
) -> GetRequest:
    if start is None and end is not None:
        start = 0
    request = GetRequest(bucket, key, start, end)
    return request if info is None else request.narrow(start, end, info.etag or None, info.size)


def _check_bucket(bucket: str) -> None:
    if not isinstance(bucket, str):
        raise TypeError(f"bucket must be a str, got {type(bucket).__name__}")
    if not bucket:
        raise ValueError("bucket must not be empty")


def _check_bucket_key(bucket: str, key: str) -> None:
    _check_bucket(bucket)
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, got {type(key).__name__}")
    if not key:
        raise ValueError("key must not be empty")


def _check_optional_str(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, got {type(value).__name__}")
