"""GET: a body of known length straight into its destination, resumed where a connection breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3torch.client._memory_pages import BytesBuffer
from s3torch.client.answers import check_answer, object_changed, place, range_header
from s3torch.client.checksum import compute, find_checksum
from s3torch.client.direct.call import Call, Operation
from s3torch.client.direct.exchange import Exchange
from s3torch.client.direct.http1 import ResponseHead, content_range
from s3torch.client.errors import ChecksumError, ProtocolError
from s3torch.client.transfers import SLOWEST
from s3torch.client.values import GetInfo, GetRequest, GetResult

if TYPE_CHECKING:
    from s3torch.client.direct.engine import DirectEngine
    from s3torch.client.protocols import Into

__all__ = ["GetCall"]

_CHECKSUM_MODE = (("x-amz-checksum-mode", "ENABLED"),)


class GetCall(Call[GetResult]):
    """One GET with all its attempts.

    Args:
        engine: Addresses and signs, and knows the policy.
        request: What to read.
        into: Where it goes.
    """

    __slots__ = ("_buffer", "_checksum", "_info", "_into", "_position", "_request", "_view")

    def __init__(self, engine: DirectEngine, request: GetRequest, into: Into) -> None:
        super().__init__(engine, Operation("GetObject", "GET", request.bucket, request.key))
        self._request = request
        self._into = into
        self._info: GetInfo | None = None
        self._buffer: BytesBuffer | None = None
        self._view: memoryview | None = None
        self._position = 0  # bytes of the view that are filled for good
        self._checksum: tuple[str, str] | None = None

    def _next_operation(self) -> Operation:
        request, info = self._request, self._info
        if info is not None and self._position >= info.length:
            self._position = 0  # all was there but not confirmed: read it again
        headers = ""
        if info is None or not self._position:
            span = range_header(request)
        else:
            span = f"bytes={info.start + self._position}-{info.start + info.length - 1}"
        if span is not None:
            headers = f"Range: {span}\r\n"
        etag = request.etag if info is None else info.etag
        if etag:
            headers += f"If-Match: {etag}\r\n"
        elif request.if_none_match:
            headers += f"If-None-Match: {request.if_none_match}\r\n"
        operation = self._operation
        operation.headers = headers
        operation.amz_headers = _CHECKSUM_MODE if span is None and self._engine.config.verify_checksums else ()
        return operation

    def on_head(self, head: ResponseHead) -> memoryview | None:
        """Check what follows against what was asked, and say where it goes."""
        if head.status not in (200, 206):
            return None
        info = self._read_head(head)
        if self._info is None:
            check_answer(self._request, info)
            self._view = self._lay_out(info)
            self._info = info
            self._deadline += info.length / SLOWEST
            self._checksum = self._whole_checksum(head, info)
        else:
            self._check_resumed(info)
            if not self._position:
                self._checksum = self._whole_checksum(head, info)  # that of the bytes that follow
        if head.length is None:
            return None  # in chunks: collected, then copied
        assert self._view is not None  # noqa: S101  # laid out with the first head
        return self._view[self._position :] if self._position else self._view

    def _read_head(self, head: ResponseHead) -> GetInfo:
        etag = head.text(b"etag") or ""
        span = head.headers.get(b"content-range")
        if head.status == 206:
            if span is None:
                raise ProtocolError("a part of the object without its range (multiple ranges were not asked for)")
            start, end, size = content_range(span)
            if head.length is not None and head.length != end - start:
                raise ProtocolError(f"a range of {end - start} bytes with a body of {head.length}")
            return GetInfo(start, end - start, size, etag)
        length = head.length
        if length is None:
            declared = head.headers.get(b"x-amz-decoded-content-length") or b""
            length = int(declared) if declared.isdigit() else self._request.size
        if length is None:
            raise ProtocolError("the store does not say how long the object is")
        return GetInfo(0, length, length, etag)

    def _lay_out(self, info: GetInfo) -> memoryview:
        view = place(self._request, info, self._into)
        if view is None:
            self._buffer = BytesBuffer(info.length, huge_pages=self._engine.config.huge_pages)
            view = self._buffer.view
        return view

    def _whole_checksum(self, head: ResponseHead, info: GetInfo) -> tuple[str, str] | None:
        if not self._engine.config.verify_checksums or info.length != info.size or not info.size:
            return None
        return find_checksum(head.headers)

    def _check_resumed(self, info: GetInfo) -> None:
        """Hold a further response to the first one."""
        first = self._info
        assert first is not None  # noqa: S101  # the caller has looked
        if info.etag != first.etag or info.size != first.size:
            raise object_changed(self._request.bucket, self._request.key)
        start, end = first.start + self._position, first.start + first.length
        if (info.start, info.length) != (start, end - start):
            raise ProtocolError(f"asked for {end - start} bytes at {start}, got {info.length} at {info.start}")

    def _keep_progress(self, exchange: Exchange) -> None:
        self._position += exchange.filled

    def _finish(self, head: ResponseHead, body: bytes) -> GetResult:
        view, info = self._view, self._info
        assert view is not None  # noqa: S101  # on_head has run
        assert info is not None  # noqa: S101  # likewise
        if head.length is None:
            if len(body) != view.nbytes - self._position:
                raise ProtocolError(f"{view.nbytes - self._position} bytes were announced, {len(body)} came")
            view[self._position :] = body
        if self._checksum is not None:
            algorithm, expected = self._checksum
            actual = compute(algorithm, [view])
            if actual != expected:
                self._position = 0  # a retry reads all of it again
                raise ChecksumError(
                    f"the bytes read have {algorithm} {actual}, the store says {expected}",
                    remedy="Something between the store and here changes bytes.",
                    is_retryable=True,
                )
        self._engine.counts.received += info.length
        if self._buffer is not None:
            del view
            self._view = None
            return GetResult(self._request, self._buffer.take(), info)
        return GetResult(self._request, view, info)
