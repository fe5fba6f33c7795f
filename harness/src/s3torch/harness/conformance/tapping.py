"""An engine that notes every request, and breaks off at one of them: what a save or a load asks of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from s3torch.client import Engine, EngineContext, S3ConnectionError, Transfer
from s3torch.client.engines import make_engine
from s3torch.client.transfers import DoneTransfer

__all__ = ["Asked", "EngineTap", "RequestTap"]

T = TypeVar("T")

_READS = frozenset({"GetObject", "HeadObject", "ListObjectsV2", "ListMultipartUploads"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    operation: str
    """The S3 operation, such as ``PutObject``."""
    bucket: str
    """The bucket."""
    keys: tuple[str, ...]
    """The keys it names; none for a listing."""

    @property
    def is_read(self) -> bool:
        """Whether it leaves the store as it is."""
        return self.operation in _READS


class RequestTap(Protocol):
    """How a suite sees the requests of its subject, and breaks them off.

    `EngineTap` is one for whatever uses `S3Client`. For anything else a proxy can be one.
    """

    def requests(self) -> list[Asked]:
        """Return the requests so far, in the order in which they began."""
        ...

    def clear(self) -> None:
        """Forget them, and let all requests pass."""
        ...

    def break_at(self, number: int, *, carried_out: bool, for_good: bool, error: BaseException | None = None) -> None:
        """Let one of the coming requests fail.

        Args:
            number: Which, counted from 0 since `clear`.
            carried_out: The store does what is asked, and only its answer is lost.
            for_good: All later requests fail, too, and do not reach the store.
            error: What the subject sees; None for a broken connection.
        """
        ...

    def call_before(self, number: int, action: Callable[[], None]) -> None:
        """Do something when one of the coming requests is about to be sent.

        Args:
            number: Which, counted from 0 since `clear`.
            action: What to do. Its own requests are noted like all others, but never call it again.
        """
        ...


class EngineTap:
    """Makes engines that note what they are asked; give it to ``S3ClientConfig(engine=...)``.

    Args:
        inner: The engine that does the work: its name, or a function that makes it.
        share: Give all clients one engine inside, for those that take long to make; they must be of one store.
    """

    def __init__(self, inner: str | Callable[[EngineContext], Engine], *, share: bool = False) -> None:
        self.inner = inner
        self._share = share
        self._shared: Any = None
        self._lock = threading.RLock()
        self._asked: list[Asked] = []
        self._breaking: _Break | None = None
        self._actions: dict[int, Callable[[], None]] = {}

    def __call__(self, context: EngineContext) -> Any:
        """Make an engine."""
        engine = self._shared
        if engine is None:
            engine = make_engine(replace(context, config=replace(context.config, engine=self.inner)))
            self._shared = engine if self._share else None
        return _TappedEngine(engine, self)

    def close(self) -> None:
        """End the connections of the engine that all share."""
        if self._shared is not None:
            self._shared.close()

    def requests(self) -> list[Asked]:
        """Return the requests so far, in the order in which they began."""
        with self._lock:
            return list(self._asked)

    def clear(self) -> None:
        """Forget them, and let all requests pass."""
        with self._lock:
            self._asked.clear()
            self._actions.clear()
            self._breaking = None

    def break_at(self, number: int, *, carried_out: bool, for_good: bool, error: BaseException | None = None) -> None:
        """Let one of the coming requests fail; see `RequestTap`."""
        with self._lock:
            self._breaking = _Break(number, carried_out, for_good, error)

    def call_before(self, number: int, action: Callable[[], None]) -> None:
        """Do something when one of the coming requests is about to be sent; see `RequestTap`."""
        with self._lock:
            self._actions[number] = action

    def ask(self, asked: Asked, call: Callable[[], T]) -> T:
        """Note a request, and send it or not."""
        with self._lock:
            number = len(self._asked)
            self._asked.append(asked)
            action = self._actions.pop(number, None)
            breaking = self._breaking if self._breaking is not None and self._breaking.holds(number) else None
        if action is not None:
            action()
        if breaking is None:
            return call()
        if breaking.carried_out and number == breaking.number:
            call()
        raise breaking.error or S3ConnectionError(
            "the connection was cut on purpose", operation=asked.operation, bucket=asked.bucket
        )


@dataclass(frozen=True, slots=True)
class _Break:
    number: int
    carried_out: bool
    for_good: bool
    error: BaseException | None

    def holds(self, number: int) -> bool:
        return number == self.number or (self.for_good and number > self.number)


class _TappedEngine:
    """Passes on to the engine inside what its tap lets through."""

    def __init__(self, inner: Any, tap: EngineTap) -> None:
        self._inner = inner
        self._tap = tap

    def start_get(self, request: Any, into: Any = None) -> Transfer[Any]:
        """Start one GET."""
        return self._start(
            "GetObject", request.bucket, (request.key,), lambda: self._inner.start_get(request, into=into)
        )

    def start_put(self, bucket: str, key: str, *arguments: Any) -> Transfer[Any]:
        """Start one PUT."""
        return self._start("PutObject", bucket, (key,), lambda: self._inner.start_put(bucket, key, *arguments))

    def start_part(self, bucket: str, key: str, *arguments: Any) -> Transfer[Any]:
        """Start to send a part."""
        return self._start("UploadPart", bucket, (key,), lambda: self._inner.start_part(bucket, key, *arguments))

    def head(self, bucket: str, key: str) -> Any:
        """Return an object's metadata."""
        return self._ask("HeadObject", bucket, (key,), lambda: self._inner.head(bucket, key))

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> Transfer[Any]:
        """Start to ask for one page."""
        return self._start("ListObjectsV2", bucket, (), lambda: self._inner.start_list_page(bucket, prefix, **options))

    def list_page(self, bucket: str, prefix: str, **options: Any) -> Any:
        """Return one page."""
        return self._ask("ListObjectsV2", bucket, (), lambda: self._inner.list_page(bucket, prefix, **options))

    def list_uploads(self, bucket: str, prefix: str, **options: Any) -> Any:
        """Return one page of uploads."""
        return self._ask(
            "ListMultipartUploads", bucket, (), lambda: self._inner.list_uploads(bucket, prefix, **options)
        )

    def create_multipart(self, bucket: str, key: str, options: Any) -> Any:
        """Begin an upload."""
        return self._ask(
            "CreateMultipartUpload", bucket, (key,), lambda: self._inner.create_multipart(bucket, key, options)
        )

    def copy_part(self, bucket: str, key: str, *arguments: Any, **options: Any) -> Any:
        """Copy a part."""
        return self._ask(
            "UploadPartCopy", bucket, (key,), lambda: self._inner.copy_part(bucket, key, *arguments, **options)
        )

    def complete_multipart(self, bucket: str, key: str, *arguments: Any) -> Any:
        """Complete an upload."""
        return self._ask(
            "CompleteMultipartUpload", bucket, (key,), lambda: self._inner.complete_multipart(bucket, key, *arguments)
        )

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload."""
        self._ask("AbortMultipartUpload", bucket, (key,), lambda: self._inner.abort_multipart(bucket, key, upload_id))

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._ask("DeleteObject", bucket, (key,), lambda: self._inner.delete(bucket, key))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> Any:
        """Delete objects."""
        return self._ask("DeleteObjects", bucket, tuple(keys), lambda: self._inner.delete_many(bucket, keys))

    def copy(self, source: Any, bucket: str, key: str, options: Any) -> Any:
        """Copy an object."""
        return self._ask(
            "CopyObject", bucket, (source.key, key), lambda: self._inner.copy(source, bucket, key, options)
        )

    def __getattr__(self, name: str) -> Any:
        """Everything else is the inner engine's own."""
        return getattr(self._inner, name)

    def _ask(self, operation: str, bucket: str, keys: tuple[str, ...], call: Callable[[], T]) -> T:
        return self._tap.ask(Asked(operation, bucket, keys), call)

    def _start(
        self, operation: str, bucket: str, keys: tuple[str, ...], start: Callable[[], Transfer[T]]
    ) -> Transfer[T]:
        begun: list[Transfer[T]] = []

        def call() -> Transfer[T]:
            begun.append(start())
            return begun[0]

        try:
            return self._ask(operation, bucket, keys, call)
        except Exception as error:  # noqa: BLE001  # raised where the transfer's result is asked for
            for transfer in begun:
                transfer.wait()  # the store does it all, only the answer is lost
            return DoneTransfer(error=error)
