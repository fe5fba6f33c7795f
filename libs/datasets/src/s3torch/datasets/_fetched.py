"""An object that was fetched ahead, and the streams that serve from it."""

from __future__ import annotations

import io
from dataclasses import replace

from s3torch.client import (
    Engine,
    GetInfo,
    GetObjectStream,
    GetRequest,
    GetResult,
    HeadObjectResult,
    InvalidRangeError,
    ObjectInfo,
    S3BucketKeyData,
    S3ClientConfig,
    S3Exception,
    Transfer,
)
from s3torch.client.answers import check_answer, place
from s3torch.client.protocols import Into
from s3torch.client.transfers import run_now

__all__ = ["FetchedObject", "WholeObject"]


class WholeObject(io.BytesIO):
    """The bytes of a whole object as a stream; shares their memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        super().__init__(data)
        self._end = len(data)  # getbuffer(), which knows it, too, would make a copy

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move, no further than the end."""
        position = super().seek(offset, whence)
        if position > self._end:
            return super().seek(self._end)
        return position

    def __next__(self) -> bytes:
        """Return all that is left, not a line of it."""
        data = self.read()
        if not data:
            raise StopIteration
        return data


class FetchedObject:
    """An object whose first bytes, or all, are here already: opens its streams, and is the engine to them.

    A request for bytes that are here is answered from them, any other goes on to the engine. What failed fails again
    for whoever reads.

    Args:
        engine: Where to read the rest.
        config: Options of the streams.
        item: The object.
        transfer: The fetch of its first bytes, ended.
    """

    clips_ranges = True
    """Tells readers that its streams end where the object ends, however much is asked for."""

    def __init__(
        self, engine: Engine, config: S3ClientConfig, item: S3BucketKeyData, transfer: Transfer[GetResult]
    ) -> None:
        self._engine = engine
        self._config = config
        self._item = item
        self._transfer: Transfer[GetResult] | None = transfer
        self._fetched: GetResult | None = None
        try:
            self._fetched = transfer.result()
        except InvalidRangeError:
            self._transfer = None  # an empty object has no first byte to give; a stream finds that out for itself
        except S3Exception:
            pass  # raised again where it is read

    @property
    def size(self) -> int | None:
        """The object's size in bytes, if the fetch told it."""
        return None if self._fetched is None else self._fetched.info.size

    @property
    def whole(self) -> bytes | memoryview | None:
        """All of the object's bytes, if they are here."""
        fetched = self._fetched
        return fetched.data if fetched is not None and len(fetched.data) == fetched.info.size else None

    def get_object_info(self) -> ObjectInfo | HeadObjectResult:
        """Return what is known of the object."""
        if self._item.object_info is not None:
            return self._item.object_info
        if self._fetched is not None:
            info = self._fetched.info
            return HeadObjectResult(info.etag, info.size, 0)  # a GET tells no time
        return self._engine.head(self._item.bucket, self._item.key)

    def __call__(self, start: int | None = None, end: int | None = None) -> GetObjectStream | WholeObject:
        """Open the object or a range of it.

        Args:
            start: First byte; None is 0.
            end: Byte after the last; None is the object's end.

        Returns:
            A stream that sends no request for bytes that are here.
        """
        whole = start is None and end is None
        fetched = self._fetched
        if fetched is None:
            return GetObjectStream(self, self._config, self._request(start, end, None, None))
        if whole and (data := self.whole) is not None:
            return WholeObject(data)
        info, here = fetched.info, len(fetched.data)
        stream = GetObjectStream(self, self._config, self._request(start, end, info.etag or None, info.size))
        if whole:
            stream.prefetch([(0, here)])
        return stream

    def start_get(self, request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        """Answer from the bytes that are here, or let the engine."""
        if self._fetched is None:
            return self._transfer or self._engine.start_get(request, into)
        info, here = self._fetched.info, len(self._fetched.data)
        start, end = request.start or 0, info.size if request.end is None else min(request.end, info.size)
        if not 0 <= start < end <= here:
            return self._engine.start_get(request, into)
        if into is None and end - start == here and self._transfer is not None:
            return self._transfer
        data = memoryview(self._fetched.data)[start:end]
        return run_now(lambda: _answer(request, data, replace(info, start=start, length=end - start), into))

    def _request(self, start: int | None, end: int | None, etag: str | None, size: int | None) -> GetRequest:
        first = start if end is None else start or 0
        return GetRequest(self._item.bucket, self._item.key, first, end, etag, size)

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Ask the engine."""
        return self._engine.head(bucket, key)

    def helper_threads(self, size: int) -> int:
        """Ask the engine; none for what is here."""
        here = 0 if self._fetched is None else len(self._fetched.data)
        return self._engine.helper_threads(size) if size > here else 0

    def release_thread(self) -> None:
        """Pass on to the engine."""
        self._engine.release_thread()


def _answer(request: GetRequest, data: memoryview, info: GetInfo, into: Into) -> GetResult:
    check_answer(request, info)
    view = place(request, info, into)
    if view is None:
        return GetResult(request, bytes(data), info)
    view[:] = data
    return GetResult(request, view, info)
