"""One request with all its attempts: the transfers of the direct engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from s3torch.client.direct.exchange import Exchange
from s3torch.client.direct.failures import error_of_answer, error_of_connection
from s3torch.client.direct.http1 import ResponseHead
from s3torch.client.errors import (
    CredentialsError,
    ProtocolError,
    S3Exception,
    ThrottledError,
)
from s3torch.client.transfers import SLOWEST, KeepsError, too_slow

if TYPE_CHECKING:
    from s3torch.client.direct.connection import Connection
    from s3torch.client.direct.engine import DirectEngine
    from s3torch.client.direct.loop import Loop

__all__ = ["Call", "Operation"]

T = TypeVar("T")

# A malformed answer is most often one broken connection; a server that always answers so will not get better.
_PROTOCOL_ATTEMPTS = 3
# A server that closes kept connections at once must not be asked for ever.
_MOST_STALE = 5


@dataclass(slots=True)  # not frozen: one is made for each attempt, and frozen ones take four times as long to make
class Operation:
    """What one S3 operation sends, before it is addressed and signed."""

    name: str
    """Name in the API reference."""
    method: str
    bucket: str
    key: str | None = None
    query: Sequence[tuple[str, str]] = ()
    amz_headers: Sequence[tuple[str, str]] = ()
    """``x-amz-*`` headers, names in lower case: signed."""
    headers: str = ""
    """Other headers, as sent, each line ended by CRLF: not signed."""
    body: Sequence[memoryview] = ()


class Call(KeepsError, Generic[T]):
    """A started operation: its attempts on connections of a loop, until an answer or an error that lasts.

    Args:
        engine: Addresses and signs, and knows the policy.
        operation: What to do.
        parse: Makes the result of a successful response's head and body.
    """

    __slots__ = (
        "_allowance",
        "_connection",
        "_deadline",
        "_done",
        "_engine",
        "_exchange",
        "_generation",
        "_head_size",
        "_last_failure",
        "_loop",
        "_malformed",
        "_operation",
        "_parse",
        "_stale",
        "_value",
        "_was_redirected",
        "_was_renewed",
        "attempts",
    )

    def __init__(
        self, engine: DirectEngine, operation: Operation, parse: Callable[[ResponseHead, bytes], T] | None = None
    ) -> None:
        self._engine = engine
        self._operation = operation
        self._parse = parse
        self._loop: Loop = engine.loop()
        self._allowance = engine.config.operation_timeout
        if operation.body:
            self._allowance += sum(piece.nbytes for piece in operation.body) / SLOWEST
        self._deadline = self._loop.driven_s + self._allowance
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._last_failure: Exception | None = None  # of the attempts before this one
        self._exchange: Exchange | None = None
        self._connection: Connection | None = None
        self._generation = 0
        self._head_size = 0
        self._malformed = 0
        self._stale = 0
        self._was_redirected = False
        self._was_renewed = False
        self.attempts = 0

    def start(self) -> None:
        """Begin the first attempt; if that is interrupted, nothing of it remains."""
        try:
            self._attempt()
        except BaseException:
            self.cancel()
            raise

    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Drive the loop until this call is done or ``until()`` is true."""
        self._follow_fork()
        loop = self._loop
        while not self._done and (until is None or not until()):
            loop.run_once()
            if loop.driven_s > self._deadline:
                self._give_up()

    def advance(self, seconds: float = 0.0) -> None:
        """Do what can be done now, and if that is nothing, wait at most ``seconds`` for something."""
        self._follow_fork()
        self._loop.run_once(seconds)

    def result(self) -> T:
        """Wait until it is done; return its result or raise its error."""
        if not self._done:
            self.wait()
        if self._error is not None:
            raise self._take_error()
        return self._value  # type: ignore[return-value]  # set wherever no error is

    def cancel(self) -> None:
        """End it at once: afterwards nothing touches its memory."""
        if not self._done:
            self._leave_connection()
            self._fail(_placed(S3Exception("the request was cancelled"), self._where()))

    def rebase(self, body: Sequence[memoryview]) -> None:
        """Go on with an equal copy of the body, so that the caller's memory is free again."""
        self._follow_fork()
        if self._done:
            return
        with self._loop.lock:
            self._operation = replace(self._operation, body=tuple(body))
            if self._exchange is not None:
                self._exchange.replace_body(body, self._head_size)

    def on_head(self, head: ResponseHead) -> memoryview | None:  # noqa: ARG002  # subclasses look at it
        """Have the body collected."""
        return None

    def on_response(self, exchange: Exchange) -> None:
        """Judge a complete response."""
        head = exchange.head
        if exchange is not self._exchange or head is None:
            return
        try:
            body = exchange.body
            error = error_of_answer(self._operation, head, body)
            if error is not None:
                self._connection = None  # it has done its work and is not to be dropped
                self._judge(error, head)
                return
            value = self._finish(head, body)
        except Exception as reason:  # noqa: BLE001  # it is this request's, not that of who drives the loop
            self._retry_or_fail(reason, head)
            return
        self._exchange = self._connection = self._last_failure = None
        self._value = value
        self._done = True
        self._engine.budget.refund()

    def on_failure(self, exchange: Exchange, error: Exception, *, was_reused: bool) -> None:
        """Judge a connection that failed before the response was complete."""
        if exchange is not self._exchange:
            return
        self._keep_progress(exchange)
        if was_reused and not exchange.has_begun and self._stale < _MOST_STALE and isinstance(error, ConnectionError):
            # The server closed a kept connection just when the request was sent (RFC 9112, section 9.3.1).
            self._stale += 1
            self._leave_connection()
            self._try_again()
            return
        if isinstance(error, OSError) and not isinstance(error, S3Exception):  # ssl's are ValueErrors, too
            self._retry_or_fail(error_of_connection(self._operation, error))
        else:
            self._retry_or_fail(error)

    def _next_operation(self) -> Operation:
        """What the next attempt sends."""
        return self._operation

    def _finish(self, head: ResponseHead, body: bytes) -> T:
        """Make the result of a successful response."""
        assert self._parse is not None  # noqa: S101  # subclasses that give none override this
        return self._parse(head, body)

    def _keep_progress(self, exchange: Exchange) -> None:
        """Note what has arrived on a connection that failed."""

    def _attempt(self) -> None:
        if self._done:
            return
        self.attempts += 1
        counts = self._engine.counts
        counts.requests += 1
        if self.attempts > 1:
            counts.retries += 1
        operation = self._next_operation()
        self._generation = self._engine.generation
        try:
            route, head = self._engine.prepare(operation)
        except Exception as error:  # noqa: BLE001  # it is this request's, not that of who drives the loop
            self._fail(_placed(error, self._where()))
            return
        self._head_size = len(head)
        exchange = Exchange(self, [memoryview(head), *operation.body], is_head=operation.method == "HEAD")
        self._exchange = exchange
        try:
            self._connection = self._loop.begin(self, route, exchange)
        except OSError as error:
            self.on_failure(exchange, error, was_reused=False)

    def _try_again(self) -> None:
        self.attempts -= 1  # it was no attempt of the server's making
        self._attempt()

    def _judge(self, error: S3Exception, head: ResponseHead) -> None:
        """Mend what an error answer says can be mended, then retry or fail."""
        engine, bucket = self._engine, self._operation.bucket
        if not self._was_redirected and engine.follow_region(bucket, error, head, self._generation):
            self._was_redirected = True
            self._leave_connection()
            self._try_again()
        elif (
            isinstance(error, CredentialsError)
            and not self._was_renewed
            and engine.renew(bucket, error, head, self._generation)
        ):
            self._was_renewed = True
            self._leave_connection()
            self._try_again()
        else:
            self._retry_or_fail(error, head)

    def _retry_or_fail(self, error: Exception, head: ResponseHead | None = None) -> None:
        self._leave_connection()
        may_retry = isinstance(error, S3Exception) and error.is_retryable
        is_throttled = isinstance(error, ThrottledError)
        if is_throttled:
            self._engine.counts.throttled += 1
        if type(error) is ProtocolError:
            self._malformed += 1
            may_retry = self._malformed < _PROTOCOL_ATTEMPTS
        delay = None
        if may_retry:
            delay = self._engine.retry_delay(self.attempts, is_throttled=is_throttled, head=head)
        loop = self._loop
        if delay is None or loop.driven_s + delay > self._deadline:
            self._fail(self._after_attempts(error))
        else:
            self._last_failure = error.with_traceback(None)  # its frames hold memory
            loop.call_at(loop.now + delay, self._attempt)

    def _after_attempts(self, error: Exception) -> Exception:
        if isinstance(error, S3Exception) and self.attempts > 1:
            error.message += f", after {self.attempts} attempts"
        return _placed(error, self._where())

    def _give_up(self) -> None:
        timeout = self._allowance
        self._leave_connection()
        error = _placed(too_slow(f"not finished within {timeout:g} s, after {self.attempts} attempts"), self._where())
        error.__cause__ = self._last_failure
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._done:
            self._exchange = self._connection = self._last_failure = None
            self._error = error
            self._done = True

    def _leave_connection(self) -> None:
        """Give the running exchange up, if there is one."""
        exchange, connection = self._exchange, self._connection
        self._exchange = self._connection = None
        if exchange is not None and connection is not None and self._loop.pid == os.getpid():
            self._loop.drop(connection, exchange)

    def _follow_fork(self) -> None:
        """In a child, start over on a loop and connections of its own: the parent goes on with the old ones."""
        if self._loop.pid == os.getpid():
            return
        self._loop = self._engine.loop()
        self._deadline = self._loop.driven_s + self._allowance
        exchange, self._exchange, self._connection = self._exchange, None, None
        if not self._done:
            if exchange is not None:
                self._keep_progress(exchange)
            self._attempt()

    def _where(self) -> dict[str, str | None]:
        operation = self._operation
        return {"operation": operation.name, "bucket": operation.bucket, "key": operation.key}


def _placed(error: Exception, where: dict[str, str | None]) -> Exception:
    """Say which operation failed, where the error does not yet."""
    if isinstance(error, S3Exception):
        for name, value in where.items():
            if getattr(error, name) is None:
                setattr(error, name, value)
        if isinstance(error, ProtocolError) and error.remedy is None:
            error.remedy = "Check that the endpoint is an S3 store's, and what lies on the way: proxies, balancers."
    return error
