"""A connection: opened step by step, then serving one exchange after the other, all without blocking."""

from __future__ import annotations

import socket
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE

from s3torch.client.direct.exchange import Exchange
from s3torch.client.direct.http1 import parse_head
from s3torch.client.direct.resolver import Address, Resolver
from s3torch.client.direct.route import Route
from s3torch.client.direct.transport import PlainTransport, TlsTransport
from s3torch.client.errors import ProtocolError, S3ConnectionError

__all__ = ["Connection", "Dialer"]

_LONGEST_TUNNEL_ANSWER = 16 * 1024


@dataclass(frozen=True, slots=True)
class Dialer:
    """What opening a connection needs."""

    resolver: Resolver
    tls: Callable[[], ssl.SSLContext]
    connect_timeout: float


class Connection:
    """A socket on its way from connecting (through a proxy's tunnel, a TLS handshake) to open, with its exchange.

    Args:
        route: Where it leads.
        dialer: How it is opened.
        driven_s: The loop's time, from which the deadline for opening counts.

    Raises:
        OSError: The name is not known, or no address can be tried.
    """

    __slots__ = (
        "__weakref__",
        "_address_until",
        "_addresses",
        "_answer",
        "_close",
        "_dialer",
        "_failure",
        "_step",
        "_transport",
        "exchange",
        "idle_since",
        "is_open",
        "is_reused",
        "is_sending",
        "last_progress",
        "mask",
        "opened_until",
        "route",
        "sock",
    )

    def __init__(self, route: Route, dialer: Dialer, driven_s: float) -> None:
        self.route = route
        self.exchange: Exchange | None = None
        self.is_open = False
        self.is_reused = False
        self.is_sending = False  # whether the exchange's request is not wholly sent yet
        self.mask = 0
        self.last_progress = driven_s
        self.idle_since = 0.0
        self.opened_until = driven_s + dialer.connect_timeout
        self._dialer = dialer
        if route.is_tls:
            dialer.tls()  # certificates that cannot be read are an error before anything is sent
        self._failure: OSError | None = None
        self._answer = b""
        self._transport: PlainTransport | TlsTransport | None = None
        host, port = (route.host, route.port) if route.proxy is None else (route.proxy.host, route.proxy.port)
        self._addresses = dialer.resolver.resolve(host, port, dialer.connect_timeout)
        self._take(self._connect_next(), driven_s)

    def _take(self, sock: socket.socket, driven_s: float) -> None:
        """Go on with a socket that has started to connect."""
        self.sock = sock
        self._address_until = driven_s + (self.opened_until - driven_s) / (1 + len(self._addresses))
        # Comes before the collector may find the socket not closed, which ``__del__`` need not.
        self._close = weakref.finalize(self, sock.close)
        # A function, not a method of this object: that would make a cycle, which only the collector would end.
        self._step: Callable[[Connection], int | None] = Connection._finish_connect

    def _connect_next(self) -> socket.socket:
        """Start to connect to the next address that can be tried."""
        while self._addresses:
            address = self._addresses.pop(0)
            try:
                return _start_connect(address)
            except OSError as error:
                self._failure = error
        raise self._failure or OSError("there is no address to connect to")

    @property
    def can_try_another(self) -> bool:
        """Whether an address has not been tried yet."""
        return bool(self._addresses)

    def is_address_silent(self, driven_s: float) -> bool:
        """Whether the address has had its share of the time and not answered, while others wait to be tried."""
        is_connecting = self._step is Connection._finish_connect
        return is_connecting and self.can_try_another and driven_s > self._address_until

    def try_another(self, reason: OSError, driven_s: float) -> None:
        """Close the socket and connect to the next address."""
        self._failure = reason
        self._close()
        self._take(self._connect_next(), driven_s)

    def advance_opening(self) -> int | None:
        """Take the next steps of opening; return the events to wait for, or None once it is open."""
        while True:
            wanted = self._step(self)
            if self.is_open or wanted is not None:
                return None if self.is_open else wanted

    def _finish_connect(self) -> int | None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"cannot connect to {self.route.host} port {self.route.port}")
        try:
            self.sock.getpeername()
        except OSError:
            return EVENT_WRITE  # not connected yet: the event was another's
        if self.route.proxy is not None and self.route.is_tls:
            self._step = Connection._ask_tunnel
        else:
            self._step = Connection._start_transport
        return None

    def _ask_tunnel(self) -> int | None:
        """Ask the proxy for a tunnel (RFC 9110, section 9.3.6)."""
        assert self.route.proxy is not None  # noqa: S101  # _finish_connect has looked
        target = f"{self.route.host}:{self.route.port}"
        lines = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if self.route.proxy.authorization is not None:
            lines += f"Proxy-Authorization: {self.route.proxy.authorization}\r\n"
        self.sock.sendall(f"{lines}\r\n".encode())  # a few bytes into the empty buffer of a new socket
        self._step = Connection._hear_tunnel
        return EVENT_READ

    def _hear_tunnel(self) -> int | None:
        try:
            # One byte at a time near the end would be needed to leave TLS bytes alone, but the server speaks second.
            data = self.sock.recv(4096)
        except BlockingIOError:
            return EVENT_READ
        if not data:
            raise ConnectionResetError("the proxy closed the connection")
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._answer) > _LONGEST_TUNNEL_ANSWER:
                raise ProtocolError("the proxy's answer is too long")
            return EVENT_READ
        head = parse_head(self._answer[:end], is_head=True)
        if not 200 <= head.status < 300:
            raise S3ConnectionError(
                f"the proxy {self.route.proxy} refuses a tunnel",
                status=head.status,
                remedy="Give the proxy what it asks for in HTTPS_PROXY (http://user:password@host:port), or bypass it "
                "with NO_PROXY.",
                is_retryable=head.status >= 500,
            )
        self._step = Connection._start_transport
        return None

    def _start_transport(self) -> int | None:
        if not self.route.is_tls:
            self._transport = PlainTransport(self.sock)
            self.is_open = True
            return None
        self._transport = TlsTransport(self.sock, self._dialer.tls(), self.route.host)
        self._step = Connection._shake_hands
        return None

    def _shake_hands(self) -> int | None:
        assert isinstance(self._transport, TlsTransport)  # noqa: S101  # _start_transport made it
        if not self._transport.handshake():
            return EVENT_READ | (EVENT_WRITE if self._transport.is_sending() else 0)
        self.is_open = True
        return None

    def advance_exchange(self, mask: int) -> bool:
        """Send and receive what can be; True once the exchange is complete."""
        exchange, transport = self.exchange, self._transport
        assert exchange is not None  # noqa: S101  # the loop calls only while one is set
        assert transport is not None  # noqa: S101  # and only when open
        if self.is_sending:
            try:
                exchange.send(transport)
                transport.flush()
            except BlockingIOError:
                pass
            except ConnectionError:
                # The server may have answered before it hung up: that answer is the reason.
                if not mask & EVENT_READ:
                    raise
            self.is_sending = not exchange.is_sent or transport.is_sending()
        if mask & EVENT_READ:
            try:
                return exchange.receive(transport)
            except BlockingIOError:
                pass
        return False

    @property
    def can_be_reused(self) -> bool:
        """Whether the exchange has ended in a way that leaves the connection clean."""
        exchange = self.exchange
        return exchange is not None and not self.is_sending and exchange.head is not None and exchange.head.keeps_alive

    def is_alive(self) -> bool:
        """Whether an idle connection can still be used: neither closed by the server nor with bytes unasked for."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket; in a child after a fork, the parent's stays open."""
        self._close()


def _start_connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(address.sockaddr)
        except BlockingIOError:
            pass  # under way
    except BaseException:
        sock.close()
        raise
    return sock
