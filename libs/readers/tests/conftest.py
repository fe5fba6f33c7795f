"""An engine over memory that takes its time and keeps a record, for all tests of the readers."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from s3torch.client import EngineContext, GetRequest, GetResult, HeadObjectResult, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import Into, Transfer
from s3torch.readers import GetStreamCallable, ReaderClient

MIB = 1024 * 1024
_numbers = itertools.count()


class Delayed:
    """A transfer whose response arrives `delay` seconds after its start, and not before somebody waits for it."""

    def __init__(self, start: Callable[[], Transfer[GetResult]], delay: float) -> None:
        self._start = start
        self._ready_at = time.monotonic() + delay
        self._transfer: Transfer[GetResult] | None = None
        self.is_cancelled = False

    def done(self) -> bool:
        return self.is_cancelled or self._transfer is not None

    def advance(self, seconds: float = 0.0) -> None:
        self._finish(min(self._ready_at, time.monotonic() + seconds))

    def _finish(self, until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))
        if not self.done() and time.monotonic() >= self._ready_at:
            self._transfer = self._start()

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        while not self.done() and not (until is not None and until()):
            self._finish(self._ready_at)

    def result(self) -> GetResult:
        self.wait()
        assert self._transfer is not None, "cancelled"
        return self._transfer.result()

    def cancel(self) -> None:
        if not self.done():
            self.is_cancelled = True

    def rebase(self, body: Any) -> None:
        raise AssertionError("not for downloads")


@dataclass
class Log:
    """What an engine was asked."""

    gets: list[GetRequest] = field(default_factory=list)
    transfers: list[Delayed] = field(default_factory=list)
    heads: int = 0
    fetched: int = 0
    most_in_flight: int = 0
    fail: Callable[[GetRequest], BaseException | None] = field(default=lambda _request: None)

    @property
    def requests(self) -> int:
        return len(self.gets) + self.heads

    @property
    def ranges(self) -> list[tuple[int | None, int | None]]:
        return [(request.start, request.end) for request in self.gets]

    def in_flight(self) -> int:
        return sum(not transfer.done() for transfer in self.transfers)

    def clear(self) -> None:
        self.gets.clear()
        self.transfers.clear()
        self.heads = self.fetched = 0


class RecordingEngine(MemoryEngine):
    """The memory engine with a latency, a record, and errors on request."""

    def __init__(self, context: EngineContext, log: Log, latency: float) -> None:
        super().__init__(context)
        self._log = log
        self._latency = latency

    def start_get(self, request: GetRequest, into: Into = None) -> Any:
        self._log.gets.append(request)

        def start() -> Transfer[GetResult]:
            error = self._log.fail(request)
            if error is not None:
                raise error
            transfer = super(RecordingEngine, self).start_get(request, into)
            if transfer.done():
                with contextlib.suppress(Exception):  # an error fetches nothing; the reader gets it from the transfer
                    self._log.fetched += len(transfer.result().data)
            return transfer

        transfer = Delayed(start, self._latency)
        self._log.transfers.append(transfer)
        self._log.most_in_flight = max(self._log.most_in_flight, self._log.in_flight())
        return transfer

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        self._log.heads += 1
        time.sleep(self._latency)
        return super().head(bucket, key)


@dataclass
class Store:
    """A client of a store of its own, and the record of what the client asked."""

    client: ReaderClient
    log: Log

    def put(self, data: bytes, key: str = "key") -> None:
        self.client.put("bucket", key, data)


class StoreFactory(Protocol):
    def __call__(self, latency: float = 0.0, **config: Any) -> Store: ...


@pytest.fixture
def make_store() -> StoreFactory:
    def make(latency: float = 0.0, **config: Any) -> Store:
        endpoint = f"memory://readers-{next(_numbers)}"
        MemoryStore.named(endpoint).create_bucket("bucket")
        log = Log()
        config.setdefault("part_size", 5 * MIB)
        options = S3ClientConfig(engine=lambda context: RecordingEngine(context, log, latency), **config)
        return Store(ReaderClient("us-east-1", endpoint=endpoint, s3client_config=options), log)

    return make


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    return make_store()


class ChunkSource:
    """A stranger's `get_stream`: iterators of bytes, strict about ranges, that count what was taken from them."""

    def __init__(self, data: bytes, chunk: int) -> None:
        self._data = data
        self._chunk = chunk
        self.opened: list[tuple[int | None, int | None]] = []
        self.closed = 0
        self.taken = 0

    def __call__(self, start: int | None = None, end: int | None = None) -> Iterator[bytes]:
        assert end is None or 0 <= (start or 0) < end <= len(self._data), "a range outside the object"
        self.opened.append((start, end))
        return self._chunks(start or 0, len(self._data) if end is None else end)

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        try:
            for at in range(start, end, self._chunk):
                chunk = self._data[at : min(at + self._chunk, end)]
                self.taken += len(chunk)
                yield chunk
        finally:
            self.closed += 1

    def info(self) -> HeadObjectResult:
        return HeadObjectResult('"etag"', len(self._data), 0)


class ChunkSourceFactory(Protocol):
    def __call__(self, data: bytes, chunk: int = 1000) -> ChunkSource: ...


@pytest.fixture
def make_source() -> ChunkSourceFactory:
    def make(data: bytes, chunk: int = 1000) -> ChunkSource:
        return ChunkSource(data, chunk)

    return make


def _check_types(source: ChunkSource) -> GetStreamCallable:
    return source  # mypy holds the stand-in to the protocol
