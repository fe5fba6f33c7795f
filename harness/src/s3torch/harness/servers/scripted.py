"""A server that answers as a test tells it to, down to the bytes: cuts, stalls, resets, lies.

It runs in threads of the test's own process, as its answers are the test's own functions; it is for faults, not speed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from s3torch.harness.servers._certificates import Certificates, make_certificates

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Answer", "Request", "ScriptedServer", "Wire", "in_turn", "object_answer"]

_DEADLINE_S = 30.0
_RECEIVE = 64 * 1024
_REASONS = {200: "OK", 206: "Partial Content", 301: "Moved Permanently", 404: "Not Found", 412: "Precondition Failed"}


class Request:
    """One request as it came.

    Attributes:
        method: HTTP method.
        target: What stands behind the method.
        headers: Names in lower case to values.
        body: The body; empty until it is read.
        connection: Number of the connection it came on, from 0.
        is_tls: Whether it came through TLS.
    """

    def __init__(self, head: bytes, connection: int, *, is_tls: bool) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, version = lines[0].split(" ")
        assert version == "HTTP/1.1", version
        pairs = [line.split(": ", 1) for line in lines[1:]]
        self.headers = {name.lower(): value for name, value in pairs}
        assert len(self.headers) == len(pairs), "a header was sent twice"
        self.body = b""
        self.connection = connection
        self.is_tls = is_tls

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The query."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First byte and byte after the last of ``Range``, if there is one of the form ``bytes=a-[b]``."""
        value = self.headers.get("range")
        if value is None:
            return None
        first, _, last = value.removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1 if last else None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} range={self.range} on {self.connection}>"


class Wire:
    """The connection a request came on, in the hands of who answers it."""

    def __init__(self, sock: socket.socket, request: Request, rest: bytes, ended: threading.Event) -> None:
        self.sock = sock
        self.request = request
        self.rest = rest
        self.ended = ended
        self.is_closed = False

    def read_body(self, most: int | None = None) -> bytes:
        """Read the request's body, or only so many bytes more of it."""
        length = int(self.request.headers.get("content-length", "0"))
        goal = length if most is None else min(length, len(self.request.body) + most)
        while len(self.request.body) < goal:
            data = self.rest or self.sock.recv(_RECEIVE)
            if not data:
                raise ConnectionResetError("the client hung up in the middle of its request")
            take = goal - len(self.request.body)
            self.request.body += data[:take]
            self.rest = data[take:]
        return self.request.body

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def respond(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole response; the length is added unless a transfer coding is given."""
        self.send(self.head(status, headers, None if headers and "Transfer-Encoding" in headers else len(body)))
        if self.request.method != "HEAD":
            self.send(body)

    def head(self, status: int, headers: Mapping[str, str] | None = None, length: int | None = None) -> bytes:
        """The bytes of a response's head, without a length if None."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if length is not None and "Content-Length" not in (headers or {}):
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def close(self) -> None:
        """Hang up; under TLS without the notice that would tell an end from a cut."""
        self.is_closed = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()

    def reset(self) -> None:
        """Hang up with a reset instead of an end."""
        self.is_closed = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def stall(self, seconds: float = _DEADLINE_S) -> None:
        """Do nothing for so long, or until the server is stopped."""
        self.ended.wait(seconds)


Answer = Callable[[Request, Wire], None]
"""Answers one request; a connection that is left open is then read for the next."""


def in_turn(*answers: Answer) -> Answer:
    """Give each request the next answer; the last one answers all that follow."""
    left = list(answers)
    lock = threading.Lock()

    def answer(request: Request, wire: Wire) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(request, wire)

    return answer


def object_answer(
    data: bytes, *, etag: str = '"one"', headers: Mapping[str, str] | None = None, sends: Iterable[int] | None = None
) -> Answer:
    """Answer GET and HEAD as a store with one object does, ranges and If-Match included.

    Args:
        data: The object's bytes.
        etag: Its ETag.
        headers: Further headers.
        sends: How many bytes of the body are sent before the connection is closed, one figure for each request; all of
            them after the last figure.
    """
    figures = iter(sends or ())

    def answer(request: Request, wire: Wire) -> None:
        if "if-match" in request.headers and request.headers["if-match"] != etag:
            wire.respond(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        start, end, status = 0, len(data), 200
        own = {"ETag": etag, "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT", **(headers or {})}
        if request.range is not None:
            start, end = request.range[0], min(request.range[1] or len(data), len(data))
            if start >= len(data):
                wire.respond(416, b"<Error><Code>InvalidRange</Code></Error>")
                return
            status = 206
            own["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        body = data[start:end]
        figure = next(figures, None)
        if figure is None:
            wire.respond(status, body, own)
        else:
            wire.send(wire.head(status, own, len(body)) + body[:figure])
            wire.close()

    return answer


class ScriptedServer:
    """Serves on the loopback interface until the ``with`` block ends; a context manager.

    Args:
        answer: Answers every request.
        host: Address to listen on.
        tls: An existing folder for certificates, to speak TLS; None speaks plainly.
        tunnels: Whether CONNECT opens a tunnel, as through a proxy, instead of being answered.

    Attributes:
        requests: What came, in order.
        connections: How many connections were accepted.
        errors: What went wrong in answering, other than a client that hung up.
        tls_errors: Handshakes that failed.
    """

    def __init__(
        self, answer: Answer, *, host: str = "127.0.0.1", tls: Path | None = None, tunnels: bool = False
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.errors: list[BaseException] = []
        self.tls_errors: list[ssl.SSLError] = []
        self.certificates: Certificates | None = None
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self.certificates = make_certificates(tls)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.certificates.certificate, self.certificates.key)
        self._host = host
        self._tunnels = tunnels
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socks: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self._listener.getsockname()[1]

    @property
    def endpoint(self) -> str:
        """The URL of the server, for clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._context is None else 'https'}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections neither side has closed."""
        with self._lock:
            return len(self._socks)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux
        with contextlib.suppress(OSError):
            socket.create_connection((self._host, self.port), 1).close()  # wakes it elsewhere
        self._listener.close()
        with self._lock:
            socks = list(self._socks)
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_DEADLINE_S)
            assert not thread.is_alive(), "a server's thread does not end"
        if kind is None and self.errors:
            raise self.errors[0]

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        with self._lock:
            self._socks.add(sock)
        sock.settimeout(_DEADLINE_S)
        held = sock
        try:
            if self._context is not None:
                try:
                    held = self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
                except ssl.SSLError as error:
                    self.tls_errors.append(error)
                    return
                with self._lock:
                    self._socks.add(held)
            self._serve_requests(held, number)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            pass  # the client hung up
        except BaseException as error:  # noqa: BLE001  # raised when the block ends
            if not self._ended.is_set():
                self.errors.append(error)
        finally:
            with self._lock:
                self._socks.difference_update({sock, held})
            held.close()
            sock.close()

    def _serve_requests(self, sock: socket.socket, number: int) -> None:
        rest = b""
        while not self._ended.is_set():
            while b"\r\n\r\n" not in rest:
                data = sock.recv(_RECEIVE)
                if not data:
                    return
                rest += data
            head, _, rest = rest.partition(b"\r\n\r\n")
            request = Request(head, number, is_tls=self._context is not None)
            self.requests.append(request)
            wire = Wire(sock, request, rest, self._ended)
            if request.method == "CONNECT" and self._tunnels:
                self._tunnel(request, wire)
                return
            self.answer(request, wire)
            if wire.is_closed:
                return
            wire.read_body()
            rest = wire.rest

    def _tunnel(self, request: Request, wire: Wire) -> None:
        host, _, port = request.target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), _DEADLINE_S) as far:
            with self._lock:
                self._socks.add(far)
            wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._start(_relay, far, wire.sock)
            _relay(wire.sock, far)
            with self._lock:
                self._socks.discard(far)


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_RECEIVE):
            target.sendall(data)
    except OSError:
        pass
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
