"""S3 in memory: an engine for tests that need no server, as strict as the real one.

    store = MemoryStore.named("memory://tests")
    store.create_bucket("bucket")
    client = S3Client(endpoint="memory://tests", s3client_config=S3ClientConfig(engine="memory"))
    client.put("bucket", "key", b"bytes")

All clients of one endpoint share one store within their process. A forked child starts with a copy of it, a spawned one
with an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from s3torch.client._memory_store import MemoryObject, MemoryStore, RefusalError
from s3torch.client.answers import check_answer, place
from s3torch.client.counts import RequestCounts
from s3torch.client.error_mapping import error_for
from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Body, EngineContext, Into
from s3torch.client.transfers import DoneTransfer, ListsAtOnce, run_now
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetInfo,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    PartResult,
    PutOptions,
    PutResult,
    UploadInfo,
)

__all__ = ["MemoryEngine", "MemoryObject", "MemoryStore"]

T = TypeVar("T")

_LARGEST_DELETE = 1000  # keys in one DeleteObjects request, by its API page


class MemoryEngine(ListsAtOnce):
    """An engine whose objects lie in a `MemoryStore`; every transfer is done as soon as it is started.

    Args:
        context: Its endpoint names the store.
        store: Another store than the named one.
    """

    def __init__(self, context: EngineContext, store: MemoryStore | None = None) -> None:
        self._region = context.region or os.environ.get("AWS_REGION") or "us-east-1"
        self._store = MemoryStore.named(context.endpoint) if store is None else store
        self.counts = RequestCounts()
        """What this engine has been asked for so far: the GETs."""

    @property
    def store(self) -> MemoryStore:
        """Where the objects lie."""
        return self._store

    @property
    def region(self) -> str:
        """The region given, else the environment's, else ``us-east-1``."""
        return self._region

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        """Copy a range into its place; whole objects into fresh memory cost nothing."""
        return run_now(lambda: self._get(request, into))

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Return the metadata of an object."""
        try:
            found = self._store.find(bucket, key)
        except RefusalError as refusal:
            # The response to a HEAD has no body, so nobody learns whether it is the bucket that is missing.
            raise error_for(operation="HeadObject", bucket=bucket, key=key, status=refusal.status, code=None) from None
        storage_class = found.options.storage_class
        return HeadObjectResult(
            found.etag,
            len(found.data),
            found.last_modified,
            storage_class=None if storage_class == "STANDARD" else storage_class,
            metadata={name.lower(): value for name, value in found.options.metadata.items()},
        )

    def list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Return one page, and the token of the next or None."""
        return _ask(
            "ListObjectsV2",
            bucket,
            None,
            lambda: self._store.page(bucket, prefix, delimiter, max_keys, token, start_after),
        )

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> DoneTransfer[PutResult]:
        """Keep a copy of the bytes as an object."""
        return run_now(
            lambda: PutResult(
                _ask("PutObject", bucket, key, lambda: self._store.write(bucket, key, b"".join(body), options)).etag
            )
        )

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        return _ask("CreateMultipartUpload", bucket, key, lambda: self._store.begin(bucket, key, options))

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> DoneTransfer[PartResult]:
        """Keep a copy of the bytes as part ``number``."""
        return run_now(
            lambda: PartResult(
                number,
                _ask(
                    "UploadPart",
                    bucket,
                    key,
                    lambda: self._store.add_part(bucket, key, upload_id, number, b"".join(body)),
                ),
            )
        )

    def copy_part(self, bucket: str, key: str, upload_id: str, number: int, source: GetRequest) -> PartResult:
        """Make part ``number`` of a range of another object."""

        def copy() -> str:
            found, start, end = self._store.find_range(source)
            return self._store.add_part(bucket, key, upload_id, number, found.data[start:end])

        return PartResult(number, _ask("UploadPartCopy", bucket, key, copy))

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Make the object of its parts."""
        return PutResult(
            _ask(
                "CompleteMultipartUpload",
                bucket,
                key,
                lambda: self._store.complete(bucket, key, upload_id, parts, options.if_none_match),
            )
        )

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts; an upload that is not there is no error."""
        try:
            self._store.abort(bucket, key, upload_id)
        except RefusalError as refusal:
            if refusal.code != "NoSuchUpload":
                raise _translate(refusal, "AbortMultipartUpload", bucket, key) from None

    def list_uploads(
        self, bucket: str, prefix: str, *, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Return a page of the unfinished uploads."""
        return _ask("ListMultipartUploads", bucket, None, lambda: self._store.upload_page(bucket, prefix, after))

    def delete(self, bucket: str, key: str) -> None:
        """Delete one object; one that is not there is no error."""
        _ask("DeleteObject", bucket, key, lambda: self._store.remove(bucket, [key]))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        """Delete up to 1,000 objects; none of them can fail here."""

        def remove() -> None:
            if not 1 <= len(keys) <= _LARGEST_DELETE:
                raise RefusalError(400, "MalformedXML", f"One request deletes 1 to {_LARGEST_DELETE} objects")
            self._store.remove(bucket, keys)

        _ask("DeleteObjects", bucket, None, remove)
        return []

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        """Copy an object, with its metadata unless ``options`` has some."""

        def copy() -> MemoryObject:
            found, _, _ = self._store.find_range(replace(source, start=None, end=None))
            if (source.bucket, source.key) == (bucket, key) and options == PutOptions():
                raise RefusalError(400, "InvalidRequest", "A copy onto itself must change something")
            kept = options if options.metadata else replace(options, metadata=found.options.metadata)
            kept = kept if options.tags else replace(kept, tags=found.options.tags)
            return self._store.write(bucket, key, found.data, kept)

        return CopyResult(_ask("CopyObject", bucket, key, copy).etag)

    def helper_threads(self, size: int) -> int:  # noqa: ARG002  # the protocol's name
        """Return 0: everything is done at once."""
        return 0

    def release_thread(self) -> None:
        """Do nothing: threads hold nothing."""

    def close(self) -> None:
        """Do nothing: the store stays."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} region={self._region!r}>"

    def _get(self, request: GetRequest, into: Into) -> GetResult:
        self.counts.requests += 1
        found, start, end = _ask("GetObject", request.bucket, request.key, lambda: self._store.find_range(request))
        info = GetInfo(start, end - start, len(found.data), found.etag)
        check_answer(request, info)
        view = place(request, info, into)
        self.counts.received += info.length
        if view is None:
            return GetResult(request, found.data if len(found.data) == info.length else found.data[start:end], info)
        view[:] = memoryview(found.data)[start:end]
        return GetResult(request, view, info)


def _ask(operation: str, bucket: str, key: str | None, call: Callable[[], T]) -> T:
    """Call the store and translate its refusal."""
    try:
        return call()
    except RefusalError as refusal:
        raise _translate(refusal, operation, bucket, key) from None


def _translate(refusal: RefusalError, operation: str, bucket: str, key: str | None) -> S3Exception:
    return error_for(
        operation=operation, bucket=bucket, key=key, status=refusal.status, code=refusal.code, message=refusal.message
    )
