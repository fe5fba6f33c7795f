"""An engine that counts what was asked of the engine inside it and how many bytes came, and fails when told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from s3torch.client import Engine, EngineContext, GetInfo, GetRequest, GetResult, HeadObjectResult, Transfer
from s3torch.client.engines import make_engine
from s3torch.client.protocols import Into

__all__ = ["Recorder", "RecordingEngine"]


class Recorder:
    """Makes recording engines and keeps what they record; give it to ``S3ClientConfig(engine=...)``.

    Args:
        inner: The engine to record: its name, or a function that makes it.
    """

    def __init__(self, inner: str | Callable[[EngineContext], Engine]) -> None:
        self.inner = inner
        self.gets: list[GetRequest] = []
        """The GETs started, in order."""
        self.heads = 0
        """How many HEADs were sent."""
        self.fetched = 0
        """Bytes in the responses whose heads have been seen."""
        self._left = -1
        self._failure: BaseException | None = None

    def __call__(self, context: EngineContext) -> Any:
        """Make an engine."""
        config = replace(context.config, engine=self.inner)
        return RecordingEngine(make_engine(replace(context, config=config)), self)

    def clear(self) -> None:
        """Forget what was recorded, and fail no more."""
        self.gets.clear()
        self.heads = self.fetched = 0
        self._failure = None

    def fail(self, after: int, error: BaseException) -> None:
        """Let every GET after some more fail.

        Args:
            after: How many GETs still succeed.
            error: What the others raise.
        """
        self._left, self._failure = after, error

    def record(self, request: GetRequest) -> None:
        """Take note of a GET that starts; raises what it is to fail with."""
        if self._failure is not None:
            self._left -= 1
            if self._left < 0:
                raise self._failure
        self.gets.append(request)


class RecordingEngine:
    """Passes everything on to the engine inside, and records reads.

    Args:
        inner: The engine that does the work.
        recorder: Where to record.
    """

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def start_get(self, request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        """Record a GET and start it."""
        self._recorder.record(request)
        transfer: Transfer[GetResult] = self._inner.start_get(request, into=self._counted(into))
        return transfer

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Record a HEAD and send it."""
        self._recorder.heads += 1
        result: HeadObjectResult = self._inner.head(bucket, key)
        return result

    def __getattr__(self, name: str) -> Any:
        """Everything else is the inner engine's own."""
        return getattr(self._inner, name)

    def _counted(self, into: Into) -> Into:
        recorder = self._recorder
        if isinstance(into, memoryview):
            recorder.fetched += into.nbytes
            return into
        allocate: Callable[[GetInfo], memoryview] = into if into is not None else _fresh

        def count(info: GetInfo) -> memoryview:
            recorder.fetched += info.length
            return allocate(info)

        return count


def _fresh(info: GetInfo) -> memoryview:
    return memoryview(bytearray(info.length))
