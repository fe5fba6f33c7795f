"""Whether a GET's response is an answer to what was asked, and where its bytes go: one rule for all engines."""

from __future__ import annotations

from s3torch.client.errors import InvalidRangeError, ObjectChangedError, ProtocolError
from s3torch.client.protocols import Into
from s3torch.client.values import GetInfo, GetRequest

__all__ = ["check_answer", "check_fits", "object_changed", "place", "range_header"]


def range_header(request: GetRequest) -> str | None:
    """Return the value of ``Range`` for a request, None for a whole object (RFC 9110, section 14.1.2)."""
    if request.start is None:
        return None
    if request.start < 0:
        return f"bytes={request.start}"
    return f"bytes={request.start}-" if request.end is None else f"bytes={request.start}-{request.end - 1}"


def object_changed(bucket: str, key: str) -> ObjectChangedError:
    """Return the error for an object of which more than one version has answered."""
    return ObjectChangedError(
        "the object was replaced while it was read",
        operation="GetObject",
        bucket=bucket,
        key=key,
        remedy="Read it again from the start.",
    )


def check_answer(request: GetRequest, info: GetInfo) -> None:
    """Hold a response's head to its request.

    Args:
        request: What was asked.
        info: What the head says.

    Raises:
        ObjectChangedError: It is another object: another ETag or size than the request names.
        ProtocolError: It is another range than the one asked for, as far as the object has it.
    """
    if (request.etag is not None and info.etag != request.etag) or (
        request.size is not None and info.size != request.size
    ):
        raise object_changed(request.bucket, request.key)
    start, end = request.start or 0, info.size if request.end is None else min(request.end, info.size)
    if start < 0:
        start = max(0, info.size + start)
    if (info.start, info.length) != (start, end - start):
        raise ProtocolError(
            f"asked for {end - start} bytes at {start} of {info.size}, the answer has {info.length} at {info.start}",
            operation="GetObject",
            bucket=request.bucket,
            key=request.key,
            remedy="The store, or a proxy before it, does not keep to HTTP ranges (RFC 9110).",
        )


def place(request: GetRequest, info: GetInfo, into: Into) -> memoryview | None:
    """Find the memory for a response's bytes.

    Args:
        request: What was asked.
        info: What the head says.
        into: What the caller gave.

    Returns:
        Memory of exactly ``info.length`` bytes; None where the engine lays out fresh memory itself.

    Raises:
        InvalidRangeError: The object ends before the caller's memory does.
        ValueError: A function gave memory of another length.
    """
    if into is None:
        return None
    view = into if isinstance(into, memoryview) else into(info)
    if callable(into) and view.nbytes != info.length:
        raise ValueError(f"into() must return {info.length} bytes of memory, got {view.nbytes}")  # a length
    check_fits(request, view, info)
    return view


def check_fits(request: GetRequest, view: memoryview, info: GetInfo) -> None:
    """Hold a response to the memory that it must fill.

    Args:
        request: What was asked.
        view: The caller's memory.
        info: What the head says.

    Raises:
        InvalidRangeError: The object ends before the memory does.
    """
    if view.nbytes != info.length:
        raise InvalidRangeError(
            f"asked for {view.nbytes} bytes at {info.start}, the object has {info.length} there",
            operation="GetObject",
            bucket=request.bucket,
            key=request.key,
            remedy="Ask for bytes within the object's size.",
        )
