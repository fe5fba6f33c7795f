"""An engine that counts: what was asked of the engine inside it, and how many bytes came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from s3torch.client import EngineContext, GetInfo, GetRequest, GetResult, HeadObjectResult, Transfer
from s3torch.client.engines import make_engine
from s3torch.client.protocols import Into

__all__ = ["Recorder", "RecordingEngine"]


class Recorder:
    """Makes recording engines and keeps what they record; give it to ``S3ClientConfig(engine=...)``.

    Args:
        inner: The name of the engine to record.
    """

    def __init__(self, inner: str) -> None:
        self.inner = inner
        self.gets: list[GetRequest] = []
        """The GETs started, in order."""
        self.heads = 0
        """How many HEADs were sent."""
        self.fetched = 0
        """Bytes in the responses whose heads have been seen."""

    def __call__(self, context: EngineContext) -> Any:
        """Make an engine."""
        config = replace(context.config, engine=self.inner)
        return RecordingEngine(make_engine(replace(context, config=config)), self)

    def clear(self) -> None:
        """Forget what was recorded."""
        self.gets.clear()
        self.heads = self.fetched = 0


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
        self._recorder.gets.append(request)
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
