"""One port of the proxy: accepts connections, passes requests on to a server, and does to some what a plan says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

from s3torch.harness.faults._messages import Head, Stream, read_head
from s3torch.harness.faults._strikes import LinkEnded, answer
from s3torch.harness.faults.plan import OBJECTS, REQUESTS, Fault, FaultCount, FaultPlan

__all__ = ["Front", "Link"]

_CONNECT_S = 10.0
_HANDSHAKE_S = 30.0
_POLL_S = 0.1
_JOIN_S = 10.0
# So small that a client which does not read is noticed soon.
_SMALL_BUFFER = 64 * 1024


class Front:
    """A port that stands for a server.

    Args:
        upstream: Host and port of the server.
        plan: What goes wrong.
        tls: Files of a certificate and its key, to speak TLS; None speaks plainly.
    """

    def __init__(self, upstream: tuple[str, int], plan: FaultPlan, tls: tuple[str, str] | None = None) -> None:
        self.upstream = upstream
        self.ended = threading.Event()
        self.expired: dict[str, Fault] = {}
        self.replaced: set[str] = set()
        self._count = FaultCount(plan)
        self._requests = 0
        self._objects = 0
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._lock = threading.Lock()
        self._socks: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._refused_until = 0.0
        # Bound, but never listening: while connections are refused, nobody else gets the port.
        self._holder = _bind(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener = _listen(self.port)
        self._start(self._accept)

    def close(self) -> None:
        """End all connections; stalls end at once."""
        self.ended.set()
        with self._lock:
            for sock in self._socks:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(_JOIN_S)
        self._holder.close()

    def follow(self, plan: FaultPlan) -> None:
        """Go by another plan from the next request on; counts begin anew."""
        with self._lock:
            self._count = FaultCount(plan)
            self._requests = 0
            self._objects = 0
            self.expired = {}
            self.replaced = set()

    def counts(self) -> dict[str, int]:
        """Return how often each fault has taken effect, how many requests came, and how many got bytes of an object."""
        with self._lock:
            return {**self._count.injected, REQUESTS: self._requests, OBJECTS: self._objects}

    def next(self, head: Head) -> Fault | None:
        """Say what happens to the next request."""
        size = 1 if head.is_chunked else head.length or 0
        with self._lock:
            self._requests += 1
            fault = self._count.next("LIST" if head.is_listing else head.method, size)
        return None if fault is None or fault.name == "idle" else fault

    def note(self, name: str) -> None:
        """Count a fault that has taken effect."""
        with self._lock:
            self._count.note(name)

    def note_object(self) -> None:
        """Count an answer with bytes of an object."""
        with self._lock:
            self._objects += 1

    def faults(self) -> tuple[Fault, ...]:
        """Return what may happen."""
        return self._count.plan.faults

    def idle_limit(self) -> float | None:
        """Seconds after which connections without progress end, if they do."""
        return next((fault.seconds for fault in self.faults() if fault.name == "idle"), None)

    def refuse(self, seconds: float) -> None:
        """Accept no connection for so long."""
        self._refused_until = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # at once; where that is no way, the acceptor closes it soon

    def hold(self, sock: socket.socket) -> None:
        """Have a socket shut when the front is closed."""
        with self._lock:
            self._socks.add(sock)
        if self.ended.is_set():
            raise LinkEnded

    def release(self, sock: socket.socket) -> None:
        """Close a socket."""
        with self._lock:
            self._socks.discard(sock)
        sock.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            left = self._refused_until - time.monotonic()
            if left > 0:
                self._listener.close()
                self.ended.wait(left)
                continue
            try:
                if self._listener.fileno() < 0:
                    self._listener = _listen(self.port)
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # it was shut: nothing is accepted for a while
                self._listener.close()
                self.ended.wait(_POLL_S / 10)
                continue
            sock.settimeout(None)
            self._start(self._serve, sock)
        self._listener.close()

    def _serve(self, sock: socket.socket) -> None:
        link: Link | None = None
        try:
            self.hold(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.idle_limit() is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
            if self._context is not None:
                with self._lock:
                    self._socks.discard(sock)
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                self.hold(sock)
                sock.settimeout(_HANDSHAKE_S)
                sock.do_handshake()
            link = Link(self, sock)
            link.serve()
        except (OSError, LinkEnded, ValueError):
            pass  # either side hung up, or spoke no HTTP
        finally:
            if link is not None:
                link.close()
            self.release(sock)


class Link:
    """A client's connection, and the one to the server that belongs to it.

    Args:
        front: Where it came in.
        sock: The client's side.
    """

    def __init__(self, front: Front, sock: socket.socket) -> None:
        self.front = front
        self.sock = sock
        self.client = Stream(sock)
        self._server: Stream | None = None

    def serve(self) -> None:
        """Answer request after request."""
        while not self.front.ended.is_set():
            limit = self.front.idle_limit()
            self.sock.settimeout(limit)
            try:
                head = read_head(self.client)
                if head is None:
                    return
                if head.get("expect") is not None:
                    self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = head.without("expect")
                goes_on = answer(self, head, self.front.next(head))
            except TimeoutError:
                if limit is not None:
                    self.front.note("idle")
                    self.reset()
                return
            if not goes_on or head.closes:
                return

    def server(self) -> Stream:
        """Return the connection to the server, a new one where the last has ended."""
        server = self._server
        if server is not None and not _is_quiet(server.sock):
            self.front.release(server.sock)
            server = None
        if server is None:
            sock = socket.create_connection(self.front.upstream, _CONNECT_S)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.front.hold(sock)
            server = self._server = Stream(sock)
        return server

    def server_in_use(self) -> Stream:
        """Return the connection that has just been given a request."""
        if self._server is None:
            raise LinkEnded
        return self._server

    def close(self) -> None:
        """End the connection to the server."""
        if self._server is not None:
            self.front.release(self._server.sock)
            self._server = None

    def reset(self) -> None:
        """End the client's connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise LinkEnded

    def cut(self) -> None:
        """End the client's connection as if all had been said; under TLS without notice."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        raise LinkEnded

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until the front is closed."""
        if self.front.ended.wait(seconds):
            raise LinkEnded


def _is_quiet(sock: socket.socket) -> bool:
    """Whether a kept connection still stands: what can be read would be its end."""
    sock.setblocking(False)  # the standard library's signature
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.setblocking(True)  # likewise
    return False


def _bind(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _listen(port: int) -> socket.socket:
    sock = _bind(port)
    sock.listen(256)
    sock.settimeout(_POLL_S)
    return sock
