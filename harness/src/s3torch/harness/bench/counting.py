"""A proxy that counts: what a subject asks of a server, and what it is sent."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3torch.harness.servers._http import QuietHandler, QuietServer

if TYPE_CHECKING:
    from types import TracebackType

_BLOCK = 1024 * 1024
_SECONDS = 120.0
_SETTLE_SECONDS = 5.0
_FRAMING = ("transfer-encoding", "connection", "keep-alive", "expect")


@dataclass(frozen=True, slots=True)
class Counts:
    """What has gone through."""

    requests: int = 0
    """Requests that were answered."""
    sent: int = 0
    """Bytes of the answers' bodies."""


class CountingProxy:
    """Stands before a server of plain HTTP; a context manager.

    It is slow: for a run whose time nobody uses.

    Args:
        target: The server's URL.
    """

    def __init__(self, target: str) -> None:
        self._server = _Server(urlsplit(target).netloc)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> CountingProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """Its own URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def counts(self) -> Counts:
        """What has gone through so far, answers that are on their way included."""
        return self._server.settled_counts()


class _Server(QuietServer):
    def __init__(self, target: str) -> None:
        super().__init__(_Handler)
        self.target = target
        self._counts = Counts()
        self._answering = 0
        self._changed = threading.Condition()

    @contextmanager
    def answering(self) -> Iterator[None]:
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def count(self, sent: int) -> None:
        with self._changed:
            self._counts = Counts(self._counts.requests + 1, self._counts.sent + sent)

    def settled_counts(self) -> Counts:
        # Who has got the last byte of an answer may ask before that has been counted.
        with self._changed:
            self._changed.wait_for(lambda: not self._answering, _SETTLE_SECONDS)
            return self._counts


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    """Passes on the requests of one connection, over one to the server."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection(self.server.target, timeout=_SECONDS)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def do_GET(self) -> None:
        """Pass a request of any method on, and its answer back."""
        if "transfer-encoding" in self.headers:
            self.send_error(501, "only bodies of known length are passed on")
            return
        with self.server.answering():
            self._pass_on()

    def _pass_on(self) -> None:
        self._send_request()
        answer = self._upstream.getresponse()
        whole = answer.read() if answer.chunked else None
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _FRAMING:
                self.send_header(name, value)
        if whole is not None:
            self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        sent = 0
        try:
            for block in [whole] if whole else iter(lambda: answer.read(_BLOCK), b""):
                self.wfile.write(block)
                sent += len(block)
        finally:
            # A subject that has enough and hangs up was sent what it was sent.
            self.server.count(sent)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _send_request(self) -> None:
        # The signature holds for the host that the subject has named.
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _FRAMING:
                self._upstream.putheader(name, value)
        self._upstream.endheaders()
        left = int(self.headers.get("content-length") or 0)
        while left:
            block = self.rfile.read(min(left, _BLOCK))
            if not block:
                raise ConnectionError("the subject ended within a body")
            left -= len(block)
            self._upstream.send(block)
