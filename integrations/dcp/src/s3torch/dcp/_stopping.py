"""Uploads in several threads that end together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from s3torch.client.protocols import Body, Transfer
from s3torch.client.upload import UploadEngine
from s3torch.client.values import GetRequest, PartResult, PutOptions, PutResult

__all__ = ["Stop", "StoppedError", "StoppingEngine"]


class StoppedError(Exception):
    """Another thread has failed: its error is the one to raise."""


class Stop:
    """The first error of several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """The first error; None as long as there is none."""
        return self._error

    def set(self, error: BaseException) -> None:
        """Note an error, unless there is one already."""
        with self._lock:
            if self._error is None:
                self._error = error

    def check(self) -> None:
        """Go on only while no thread has failed.

        Raises:
            StoppedError: One has.
        """
        if self._error is not None:
            raise StoppedError("another thread has failed")


class StoppingEngine:
    """An engine that starts nothing more once a thread has failed; it still cleans up.

    Args:
        engine: The engine.
        stop: The threads' common error.
    """

    def __init__(self, engine: UploadEngine, stop: Stop) -> None:
        self._engine = engine
        self._stop = stop

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> Transfer[PutResult]:
        """Start one PUT."""
        self._stop.check()
        return self._engine.start_put(bucket, key, body, options)

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        self._stop.check()
        return self._engine.create_multipart(bucket, key, options)

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Transfer[PartResult]:
        """Start to send a part."""
        self._stop.check()
        return self._engine.start_part(bucket, key, upload_id, number, body)

    def copy_part(self, bucket: str, key: str, upload_id: str, number: int, source: GetRequest) -> PartResult:
        """Make a part of a range of another object."""
        self._stop.check()
        return self._engine.copy_part(bucket, key, upload_id, number, source)

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Make the object of its parts."""
        self._stop.check()
        return self._engine.complete_multipart(bucket, key, upload_id, parts, options)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts."""
        self._engine.abort_multipart(bucket, key, upload_id)
