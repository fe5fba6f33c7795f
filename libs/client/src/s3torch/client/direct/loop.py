"""The loop: many connections on one selector, driven by whoever waits for a result."""

from __future__ import annotations

import heapq
import os
import selectors
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol

from s3torch.client.direct.connection import Connection, Dialer
from s3torch.client.direct.exchange import Exchange
from s3torch.client.direct.route import Route

__all__ = ["Loop", "LoopUser", "SharedPool"]

# How long one turn waits at most, so that conditions the selector cannot see are looked at again.
_LONGEST_TURN_S = 0.25
_SCAN_S = 0.25
# S3 closes connections that idle for some 20 s; one that it is about to close is not worth an error.
_IDLE_S = 15.0
_MOST_IDLE = 256
_BOTH = EVENT_READ | EVENT_WRITE


class LoopUser(Protocol):
    """Who starts exchanges, and hears how they end."""

    def on_response(self, exchange: Exchange) -> None:
        """The response is complete."""
        ...

    def on_failure(self, exchange: Exchange, error: Exception, *, was_reused: bool) -> None:
        """The connection failed first."""
        ...


class SharedPool:
    """Idle connections that threads have left behind for others."""

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: dict[Route, deque[Connection]] = {}

    def put(self, connection: Connection) -> None:
        """Leave a connection that no selector watches."""
        idle = self._idle.setdefault(connection.route, deque(maxlen=_MOST_IDLE))
        idle.append(connection)

    def get(self, route: Route) -> Connection | None:
        """Take one that is alive."""
        idle = self._idle.get(route)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was faster
                return None
            if connection.is_alive():
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Close all."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


class Loop:
    """Multiplexes exchanges; nothing happens but in `run_once`.

    One loop belongs to one thread of one process, but others may drive it in turn: what a thread has started, another
    can wait for.

    Args:
        dialer: How connections are opened.
        shared: Where threads leave idle connections.
        read_timeout: Seconds that a connection may stay without progress while the loop is driven.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, dialer: Dialer, shared: SharedPool, read_timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pid = os.getpid()
        self.now = clock()
        self.driven_s = 0.0  # time spent waiting here: what deadlines count, as pauses are not the servers' fault
        self._clock = clock
        self._dialer = dialer
        self._shared = shared
        self._read_timeout = read_timeout
        self.lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._idle: dict[Route, list[Connection]] = {}
        self._busy: dict[Connection, LoopUser] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._next_scan = self.now + _SCAN_S
        self._current: Connection | None = None  # whose handler is running; left set if an interrupt cut it short

    def begin(self, user: LoopUser, route: Route, exchange: Exchange) -> Connection:
        """Start an exchange on an idle or a new connection.

        Args:
            user: Hears how it ends.
            route: Where it goes.
            exchange: What to send, and where the answer goes.

        Returns:
            The connection it runs on.

        Raises:
            OSError: The host's name is unknown, or no address can be tried.
        """
        with self.lock:
            now = self._clock()
            connection = self._take_idle(route, now) or self._shared.get(route)
            if connection is None:
                connection = Connection(route, self._dialer, self.driven_s)
            connection.exchange = exchange
            connection.is_sending = True
            connection.last_progress = self.driven_s
            self._busy[connection] = user
            try:
                if connection.is_open:
                    connection.is_reused = True
                    self._send_first(connection)
                    self._watch_exchange(connection)
                else:
                    self._watch(connection, EVENT_WRITE)
            except BaseException:
                self._forget(connection)
                raise
            return connection

    def _send_first(self, connection: Connection) -> None:
        """Send at once what the socket takes; if it has broken, the loop finds out when it reads."""
        try:
            connection.advance_exchange(0)
        except OSError:
            pass

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Have ``callback`` called in a later turn, at ``when`` or after."""
        with self.lock:
            self._timer_number += 1
            heapq.heappush(self._timers, (when, self._timer_number, callback))

    def drop(self, connection: Connection, exchange: Exchange) -> None:
        """Give an exchange up: afterwards nothing touches its memory."""
        with self.lock:
            if connection.exchange is exchange:
                self._forget(connection)

    def run_once(self, longest: float = _LONGEST_TURN_S) -> None:
        """Wait for something to happen, at most ``longest`` seconds, and handle it."""
        with self.lock:
            if self._current is not None:
                # A handler was interrupted (Ctrl-C) at an unknown point: what it noted may be behind what it did.
                broken, self._current = self._current, None
                self._fail(broken, ConnectionAbortedError("the connection's handling was interrupted"))
            started = self._clock()
            if self._timers:
                longest = max(0.0, min(longest, self._timers[0][0] - started))
            if self._busy or self._idle:
                events = self._selector.select(longest)
            else:  # Windows' select takes no empty lists
                time.sleep(longest)
                events = []
            self.now = self._clock()
            self.driven_s += self.now - started
            for key, mask in events:
                self._current = key.data
                self._handle(key.data, mask)
                self._current = None
            while self._timers and self._timers[0][0] <= self.now:
                heapq.heappop(self._timers)[2]()
            if self.now >= self._next_scan:
                self._next_scan = self.now + _SCAN_S
                self._scan()

    def release(self) -> None:
        """Leave the idle connections to other threads."""
        with self.lock:
            for idle in self._idle.values():
                for connection in idle:
                    self._unwatch(connection)
                    self._shared.put(connection)
            self._idle.clear()

    def close(self) -> None:
        """Close everything; what was in flight fails."""
        with self.lock:
            for connection in list(self._busy):
                self._fail(connection, ConnectionAbortedError("the client was closed"))
            for idle in self._idle.values():
                for connection in idle:
                    self._unwatch(connection)
                    connection.close()
            self._idle.clear()

    def __del__(self) -> None:
        selector = getattr(self, "_selector", None)
        if selector is not None:
            selector.close()  # closes the descriptor only: after a fork, the parent's watches stay

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"<Loop {len(self._busy)} busy, {idle} idle, {len(self._timers)} timers>"

    def _handle(self, connection: Connection, mask: int) -> None:
        user = self._busy.get(connection)
        if user is None:
            # Idle, and something to read: the server has closed it.
            idle = self._idle.get(connection.route)
            if idle is not None and connection in idle:
                idle.remove(connection)
            self._unwatch(connection)
            connection.close()
            return
        connection.last_progress = self.driven_s
        try:
            if not connection.is_open:
                wanted = connection.advance_opening()
                if wanted is not None:
                    self._watch(connection, wanted)
                    return
                mask = EVENT_WRITE
            is_complete = connection.advance_exchange(mask)
        except OSError as error:  # ssl.SSLError among them
            if not connection.is_open and connection.can_try_another and not isinstance(error, ssl.SSLError):
                self._retry_connect(connection, error)
            else:
                self._fail(connection, error)
            return
        except Exception as error:  # noqa: BLE001  # whatever a responder raises ends its exchange, not the loop
            self._fail(connection, error)
            return
        if is_complete:
            self._complete(connection, user)
        else:
            self._watch_exchange(connection)

    def _complete(self, connection: Connection, user: LoopUser) -> None:
        exchange = connection.exchange
        assert exchange is not None  # noqa: S101  # it has just completed
        # The user first: were it interrupted in between, `run_once` would find the exchange still unanswered.
        user.on_response(exchange)
        if not connection.can_be_reused:
            self._forget(connection)
            return
        connection.exchange = None
        connection.idle_since = self.now
        del self._busy[connection]
        self._idle.setdefault(connection.route, []).append(connection)
        self._watch(connection, EVENT_READ)

    def _fail(self, connection: Connection, error: Exception) -> None:
        user, exchange = self._busy.get(connection), connection.exchange
        try:
            if user is not None and exchange is not None:
                user.on_failure(exchange, error, was_reused=connection.is_reused)
        finally:
            self._forget(connection)

    def _retry_connect(self, connection: Connection, error: OSError) -> None:
        self._unwatch(connection)
        try:
            connection.try_another(error, self.driven_s)
        except OSError as last:
            self._fail(connection, last)
        else:
            self._watch(connection, EVENT_WRITE)

    def _forget(self, connection: Connection) -> None:
        self._busy.pop(connection, None)
        connection.exchange = None
        self._unwatch(connection)
        connection.close()

    def _take_idle(self, route: Route, now: float) -> Connection | None:
        idle = self._idle.get(route)
        while idle:
            connection = idle.pop()
            # Bytes that came unasked are the answer to nothing (RFC 9112, section 9.2): a look costs a microsecond.
            if now - connection.idle_since < _IDLE_S and connection.is_alive():
                return connection
            self._unwatch(connection)
            connection.close()
        return None

    def _watch(self, connection: Connection, mask: int) -> None:
        known = connection.mask
        if known == mask:
            return
        connection.mask = mask  # noted first: `_unwatch` mends what an interrupt leaves half done
        if known:
            self._selector.modify(connection.sock, mask, connection)
        else:
            self._selector.register(connection.sock, mask, connection)

    def _watch_exchange(self, connection: Connection) -> None:
        self._watch(connection, _BOTH if connection.is_sending else EVENT_READ)

    def _unwatch(self, connection: Connection) -> None:
        if connection.mask:
            try:
                self._selector.unregister(connection.sock)
            except KeyError:  # an interrupt was in between
                pass
            connection.mask = 0

    def _scan(self) -> None:
        """Fail what has not moved for too long, and close what has idled for too long."""
        for connection in list(self._busy):
            if not connection.is_open:
                if self.driven_s > connection.opened_until:
                    host, port = connection.route.host, connection.route.port
                    self._fail(connection, TimeoutError(f"no connection to {host} port {port} in time"))
                elif connection.is_address_silent(self.driven_s):
                    self._retry_connect(connection, TimeoutError("the address does not answer"))
            elif self.driven_s - connection.last_progress > self._read_timeout:
                self._fail(connection, TimeoutError(f"no byte moved for {self._read_timeout:g} s"))
        for idle in self._idle.values():
            while idle and self.now - idle[0].idle_since > _IDLE_S:
                connection = idle.pop(0)
                self._unwatch(connection)
                connection.close()
