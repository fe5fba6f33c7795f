"""An engine with a cache before it: what was read once is read from the disk when it is read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from s3torch.client._memory_pages import BytesBuffer
from s3torch.client.answers import check_answer, place
from s3torch.client.cache._entry import DamagedError, Version
from s3torch.client.cache.disk import DiskCache, Found
from s3torch.client.counts import Counts, RequestCounts
from s3torch.client.errors import PreconditionFailedError, S3Exception
from s3torch.client.listing import ListPage
from s3torch.client.protocols import Body, Engine, Into, Transfer
from s3torch.client.transfers import DoneTransfer
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

__all__ = ["CachingEngine"]

_NOT_MODIFIED = 304


class CachingEngine:
    """Answers GETs from a `DiskCache` where it can; everything else is the inner engine's.

    A GET that names an ETag is answered without a request: what it asks for cannot have changed. One that names none
    is sent with ``If-None-Match``, if a version of the object is there, and answered from the cache only when the
    store says that it is still the same (RFC 9110, section 13.1.2).

    Args:
        inner: The engine that asks the store.
        cache: Where stretches of objects lie.
        endpoint: The store's URL as it was given; None asks the engine.
    """

    def __init__(self, inner: Engine, cache: DiskCache, endpoint: str | None) -> None:
        self._inner = inner
        self._cache = cache
        self._store = None if endpoint is None else endpoint.rstrip("/")

    @property
    def cache(self) -> DiskCache:
        """The cache."""
        return self._cache

    def start_get(self, request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        """Read from the disk, at once; or start a GET whose bytes are kept when it has ended."""
        cache = self._cache
        if request.if_none_match is not None:
            return self._inner.start_get(request, into)
        try:
            store = self._store if self._store is not None else self._find_store()
        except Exception:  # noqa: BLE001  # the configuration is wrong; the request says how
            return self._inner.start_get(request, into)
        if request.etag:
            if not _is_strong(request.etag):
                return self._inner.start_get(request, into)
            version = Version(store, request.bucket, request.key, request.etag)
            found = cache.find(version, request.start, request.end, request.size)
            if found is not None:
                return self.serve(request, found, into, is_revalidated=False)
        elif (known := cache.recall(Version(store, request.bucket, request.key, ""))) is not None:
            etag, size = known
            version = Version(store, request.bucket, request.key, etag)
            found = cache.find(version, request.start, request.end, size)
            if found is not None and request.size not in (None, size):
                found.close()
            elif found is not None:
                return _Revalidation(self, request, into, found)
        return self.fetch(request, into)

    def fetch(self, request: GetRequest, into: Into) -> Transfer[GetResult]:
        """Start a GET whose bytes are kept when it has ended."""
        return _Keeping(self._inner.start_get(request, into), self)

    def revalidate(self, request: GetRequest, into: Into, etag: str) -> Transfer[GetResult]:
        """Start a GET that sends bytes only if the object has another ETag; they are kept."""
        return self.fetch(replace(request, if_none_match=etag), into)

    def serve(self, request: GetRequest, found: Found, into: Into, *, is_revalidated: bool) -> Transfer[GetResult]:
        """Read what was found; if it is damaged, start a GET."""
        info = found.info
        view: memoryview | None = None
        try:
            check_answer(request, info)
            view = place(request, info, into)
            if view is None:
                buffer = BytesBuffer(info.length)
                found.read_into(buffer.view)
                result = GetResult(request, buffer.take(), info)
            else:
                found.read_into(view)
                result = GetResult(request, view, info)
        except DamagedError:
            found.close()
            return self.fetch(request, _again(into, info, view))
        except Exception as error:  # noqa: BLE001  # kept, and raised by result()
            return DoneTransfer(error=error)
        finally:
            found.close()
        self._cache.note_hit(info.length, is_revalidated=is_revalidated)
        return DoneTransfer(result)

    def keep(self, result: GetResult) -> None:
        """Store what has come."""
        request, info = result.request, result.info
        if not _is_strong(info.etag) or self._store is None:
            return
        version = Version(self._store, request.bucket, request.key, info.etag)
        self._cache.store(version, info, result.data)
        if not request.etag:
            self._cache.remember(version, info.size)

    def _find_store(self) -> str:
        """Ask the engine for the URL that it has from the environment or the profile."""
        self._store = str(getattr(self._inner, "endpoint", "") or "").rstrip("/")
        return self._store

    @property
    def counts(self) -> RequestCounts:
        """What the inner engine has asked and received, if it counts."""
        return self._inner.counts if isinstance(self._inner, Counts) else RequestCounts()

    @property
    def region(self) -> str:
        """The region requests are made for."""
        return self._inner.region

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Ask the store."""
        return self._inner.head(bucket, key)

    def start_list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> Transfer[ListPage]:
        """Ask the store."""
        return self._inner.start_list_page(
            bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
        )

    def list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Ask the store."""
        return self._inner.list_page(
            bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
        )

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> Transfer[PutResult]:
        """Write to the store; nothing is kept of it."""
        return self._inner.start_put(bucket, key, body, options)

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Ask the store."""
        return self._inner.create_multipart(bucket, key, options)

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Transfer[PartResult]:
        """Write to the store; nothing is kept of it."""
        return self._inner.start_part(bucket, key, upload_id, number, body)

    def copy_part(self, bucket: str, key: str, upload_id: str, number: int, source: GetRequest) -> PartResult:
        """Ask the store."""
        return self._inner.copy_part(bucket, key, upload_id, number, source)

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Ask the store."""
        return self._inner.complete_multipart(bucket, key, upload_id, parts, options)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Ask the store."""
        self._inner.abort_multipart(bucket, key, upload_id)

    def list_uploads(
        self, bucket: str, prefix: str, *, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Ask the store."""
        return self._inner.list_uploads(bucket, prefix, after=after)

    def delete(self, bucket: str, key: str) -> None:
        """Ask the store; entries of what is gone are no longer asked for, and go with time."""
        self._inner.delete(bucket, key)

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        """Ask the store, likewise."""
        return self._inner.delete_many(bucket, keys)

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        """Ask the store."""
        return self._inner.copy(source, bucket, key, options)

    def helper_threads(self, size: int) -> int:
        """Ask the engine."""
        return self._inner.helper_threads(size)

    def release_thread(self) -> None:
        """Pass on to the engine."""
        self._inner.release_thread()

    def close(self) -> None:
        """End the engine's transfers and connections; the files stay."""
        self._cache.close()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        """What an engine has beyond the protocols is the inner one's."""
        if name == "_inner":  # while it is being made
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r} in {self._cache.config.directory!r}>"


class _Keeping:
    """A GET on its way; its bytes are kept by whoever asks for the result, before they are handed out."""

    __slots__ = ("_engine", "_inner")

    def __init__(self, inner: Transfer[GetResult], engine: CachingEngine) -> None:
        self._inner = inner
        self._engine: CachingEngine | None = engine

    def done(self) -> bool:
        """Whether the GET has ended."""
        return self._inner.done()

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Drive the GET."""
        self._inner.wait(until)

    def advance(self, seconds: float = 0.0) -> None:
        """Drive the GET."""
        self._inner.advance(seconds)

    def result(self) -> GetResult:
        """Return what came; the first time, it is written to the disk."""
        result = self._inner.result()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.keep(result)
        return result

    def cancel(self) -> None:
        """End the GET."""
        self._inner.cancel()

    def rebase(self, body: Body) -> None:
        """Pass on."""
        self._inner.rebase(body)


class _Revalidation:
    """A GET that asks whether what is here is still the object, and goes on accordingly."""

    __slots__ = ("_engine", "_found", "_inner", "_into", "_request")

    def __init__(self, engine: CachingEngine, request: GetRequest, into: Into, found: Found) -> None:
        self._engine = engine
        self._request = request
        self._into = into
        self._found: Found | None = found
        self._inner = engine.revalidate(request, into, found.info.etag)

    def done(self) -> bool:
        """Whether the bytes are there, from the store or from the disk."""
        self._look()
        return self._inner.done()

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Drive the GET, and read from the disk if that is its answer."""
        while not self.done() and not (until is not None and until()):
            self._inner.wait(until)

    def advance(self, seconds: float = 0.0) -> None:
        """Drive the GET."""
        self._inner.advance(seconds)

    def result(self) -> GetResult:
        """Wait, and return the bytes."""
        self.wait()
        return self._inner.result()

    def cancel(self) -> None:
        """End it."""
        self._inner.cancel()
        if self._found is not None:
            self._found.close()
            self._found = None

    def rebase(self, body: Body) -> None:
        """Do nothing: there is no body."""

    def _look(self) -> None:
        """If the store has answered, settle where the bytes come from."""
        found = self._found
        if found is None or not self._inner.done():
            return
        self._found = None
        try:
            result = self._inner.result()
        except PreconditionFailedError as error:
            if error.status == _NOT_MODIFIED:
                self._inner = self._engine.serve(self._request, found, self._into, is_revalidated=True)
            else:
                self._inner = DoneTransfer(error=error)
        except S3Exception as error:
            self._inner = DoneTransfer(error=error)
        else:
            self._inner = DoneTransfer(replace(result, request=self._request))
        finally:
            found.close()


def _is_strong(etag: str) -> bool:
    """Whether an entity tag stands for the very bytes, as one can be compared with (RFC 9110, section 8.8.1)."""
    return bool(etag) and not etag.startswith("W/") and "\n" not in etag


def _again(into: Into, first: GetInfo, view: memoryview | None) -> Into:
    """Have a second answer written where the first one was to go, if it says the same of the object."""
    if view is None or not callable(into):
        return into

    def choose(info: GetInfo) -> memoryview:
        assert callable(into)  # noqa: S101  # as looked at above
        return view if info == first else into(info)

    return choose
