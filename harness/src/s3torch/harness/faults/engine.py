"""Engines that fail by a plan: for engines without sockets, where no proxy stands in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from s3torch.client import (
    CredentialsError,
    EngineContext,
    PutOptions,
    RegionError,
    S3ConnectionError,
    S3Exception,
    S3TimeoutError,
    ServerError,
    ThrottledError,
    Transfer,
)
from s3torch.client.engines import make_engine
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.faults.plan import Fault, FaultCount, FaultName, FaultPlan, make_replacement

__all__ = ["ENGINE_FAULTS", "FaultyEngines"]

T = TypeVar("T")

ENGINE_FAULTS: frozenset[FaultName] = frozenset(
    {"refuse", "reset", "cut", "stall", "drip", "status", "expire", "region", "replace"}
)
"""What can go wrong without a socket."""

_METHODS = {
    "head": "HEAD",
    "list_page": "LIST",
    "list_uploads": "LIST",
    "create_multipart": "POST",
    "complete_multipart": "POST",
    "copy_part": "PUT",
    "copy": "PUT",
    "abort_multipart": "DELETE",
    "delete": "DELETE",
    "delete_many": "POST",
}
_LOST = frozenset({"refuse", "reset", "cut"})


class FaultyEngines:
    """Makes engines whose requests go wrong by a plan; give it to ``S3ClientConfig(engine=...)``.

    An engine raises what is left when its own retries are used up, so each fault is an error to whoever uses it: a
    broken connection, a timeout (after ``read_timeout``), the error of a status. Before ``reset`` and ``cut`` at -1 the
    request is carried out: only its answer is lost. ``replace`` puts `make_replacement` in an object's place once that
    has been read. Faults of the wire itself (all but `ENGINE_FAULTS`) do not exist here and are ignored.

    Args:
        inner: The name of the engine that does the work.
        plan: What goes wrong, and when.
    """

    def __init__(self, inner: str, plan: FaultPlan) -> None:
        self.inner = inner
        faults = tuple(fault for fault in plan.faults if fault.name in ENGINE_FAULTS)
        self._count = FaultCount(replace(plan, faults=faults))
        self._lock = threading.Lock()

    def __call__(self, context: EngineContext) -> Any:
        """Make an engine."""
        engine = make_engine(replace(context, config=replace(context.config, engine=self.inner)))
        return _FaultyEngine(engine, self, context.config.read_timeout)

    def injected(self) -> dict[str, int]:
        """Return how often each fault has taken effect, by name."""
        with self._lock:
            return dict(self._count.injected)

    def next(self, method: str, size: int) -> Fault | None:
        """Say what happens to the next request, and count it."""
        with self._lock:
            fault = self._count.next(method, size)
            if fault is not None:
                self._count.note(fault.name)
            return fault


class _FaultyEngine:
    def __init__(self, inner: Any, faults: FaultyEngines, read_timeout: float) -> None:
        self._inner = inner
        self._faults = faults
        self._read_timeout = read_timeout

    def start_get(self, request: Any, into: Any = None) -> Transfer[Any]:
        """Start one GET."""
        fault = self._faults.next("GET", 0)
        if fault is not None and fault.name == "replace":
            transfer: Transfer[Any] = self._inner.start_get(request, into=into)
            transfer.wait()
            new = memoryview(make_replacement(self._inner.head(request.bucket, request.key).size))
            self._inner.start_put(request.bucket, request.key, [new], PutOptions()).result()
            return transfer
        return self._start(fault, lambda: self._inner.start_get(request, into=into))

    def start_put(self, bucket: str, key: str, body: Any, *arguments: Any) -> Transfer[Any]:
        """Start one PUT."""
        fault = self._faults.next("PUT", sum(piece.nbytes for piece in body))
        return self._start(fault, lambda: self._inner.start_put(bucket, key, body, *arguments))

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Any) -> Transfer[Any]:
        """Start to send a part."""
        fault = self._faults.next("PUT", sum(piece.nbytes for piece in body))
        return self._start(fault, lambda: self._inner.start_part(bucket, key, upload_id, number, body))

    def start_list_page(self, *arguments: Any, **options: Any) -> Transfer[Any]:
        """Start to ask for one page."""
        return self._start(self._faults.next("LIST", 0), lambda: self._inner.start_list_page(*arguments, **options))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the inner engine's own; what is a request may fail."""
        found = getattr(self._inner, name)
        method = _METHODS.get(name)
        if method is None:
            return found

        def ask(*arguments: Any, **options: Any) -> Any:
            fault = self._faults.next(method, 0)
            if fault is None:
                return found(*arguments, **options)
            if fault.at < 0 and fault.name in _LOST:
                found(*arguments, **options)
            raise self._error(fault)

        return ask

    def _start(self, fault: Fault | None, start: Callable[[], Transfer[T]]) -> Transfer[T]:
        if fault is None:
            return start()
        if fault.at < 0 and fault.name in _LOST:
            start().wait()
        return DoneTransfer(error=self._error(fault))

    def _error(self, fault: Fault) -> S3Exception:
        if fault.name in _LOST:
            return S3ConnectionError("the connection was cut on purpose", is_retryable=True)
        if fault.name in ("stall", "drip"):
            time.sleep(min(fault.seconds, self._read_timeout))
            return S3TimeoutError("stalled on purpose", is_retryable=True)
        if fault.name == "expire":
            return CredentialsError("expired on purpose", status=fault.status, code=fault.code)
        if fault.name == "region":
            return RegionError("in another region on purpose", status=fault.status)
        kind = ThrottledError if fault.status in (429, 503) else ServerError
        return kind("refused on purpose", status=fault.status, code=fault.code, is_retryable=True)
