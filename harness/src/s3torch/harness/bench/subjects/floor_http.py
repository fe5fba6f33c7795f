"""The floor: what plain sockets in Python reach when they do nothing but this one thing.

No signature, no retry, no deadline, no check beyond the status: less than any client can do, and so what one is
measured against.
"""

from __future__ import annotations

import http.client
import selectors
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from s3torch.harness.bench.subjects.memory import BytesTarget, advise_huge, fresh_map
from s3torch.harness.bench.subjects.sockets import (
    HEAD_BYTES,
    address_of,
    alive,
    check_put,
    connect,
    get_request,
    is_closed,
    parse_head,
    put_request,
    receive,
)
from s3torch.harness.bench.subjects.task import Sink, Subject, Task

PART = 8 * 1024 * 1024
# Spares the GIL's exchange for each piece.
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)


def _parts(task: Task) -> Iterator[tuple[int, int]]:
    for start in range(0, task.size, PART):
        yield start, min(start + PART, task.size)


def _open(endpoint: str) -> socket.socket:
    found = connect(endpoint)
    found.setblocking(False)
    return found


class _Receiver(Protocol):
    socket: socket.socket


def _watch(connections: Iterable[_Receiver]) -> selectors.BaseSelector:
    found = selectors.DefaultSelector()
    for each in connections:
        found.register(each.socket, selectors.EVENT_READ, each)
    return found


def _reopen(selector: selectors.BaseSelector, endpoint: str) -> None:
    """Replace the connections that the server has hung up on; all of them wait for nothing."""
    for event, _ in selector.select(0):
        connection: _Receiver = event.data
        selector.unregister(connection.socket)
        connection.socket.close()
        connection.socket = _open(endpoint)
        selector.register(connection.socket, selectors.EVENT_READ, connection)


class _PartConnection:
    """Receives one part after the other into its place."""

    __slots__ = ("left", "socket", "view")

    def __init__(self, endpoint: str) -> None:
        self.socket = _open(endpoint)
        self.view: memoryview | None = None
        self.left = memoryview(b"")

    def start(self, request: bytes, target: memoryview) -> None:
        self.socket.send(request)
        self.view, self.left = None, target

    def advance(self) -> bool:
        """Receive what there is; return whether the part is complete."""
        if self.view is None:
            # The head is small: what came with it is copied, the rest goes to its place.
            data = self.socket.recv(4096)
            body, length = parse_head(data)
            if length != self.left.nbytes:
                raise ConnectionError(f"got {length} bytes, not {self.left.nbytes}")
            self.view = self.left
            got = len(data) - body
            self.left[:got] = data[body:]
            self.left = self.left[got:]
        while self.left:
            try:
                got = receive(self.socket, self.left)
            except BlockingIOError:
                return False
            self.left = self.left[got:]
        # A view that lives on would make the whole object's memory be copied when it is handed out.
        self.view, self.left = None, memoryview(b"")
        return True


class LargeGet:
    """One object in parts of 8 MiB on several connections, driven by one loop."""

    def __init__(self, task: Task, connections: int) -> None:
        self._task = task
        self._connections = [_PartConnection(task.endpoint) for _ in range(connections)]
        self._selector = _watch(self._connections)

    def fill(self, view: memoryview, key: str) -> None:
        """Receive the object into ``view``."""
        advise_huge(view)
        self._receive((key, start, stop, view[start:stop]) for start, stop in _parts(self._task))

    def fill_places(self, places: list[tuple[str, int, int, memoryview]]) -> None:
        """Receive stretches of objects, each given by key, start, stop and the memory that it goes to."""
        for _, _, _, view in places:
            advise_huge(view)
        self._receive(iter(places))

    def _receive(self, places: Iterator[tuple[str, int, int, memoryview]]) -> None:
        _reopen(self._selector, self._task.endpoint)
        busy = 0
        for connection, (key, start, stop, target) in zip(self._connections, places, strict=False):
            connection.start(get_request(self._task, key, start, stop), target)
            busy += 1
        while busy:
            for event, _ in self._selector.select():
                connection = event.data
                if not connection.advance():
                    continue
                following = next(places, None)
                if following is None:
                    busy -= 1
                else:
                    key, start, stop, target = following
                    connection.start(get_request(self._task, key, start, stop), target)


class _BlockingGet:
    """One object on one connection, by calls that return when all is there."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._socket = connect(task.endpoint)

    def fill(self, view: memoryview, key: str) -> None:
        advise_huge(view)
        self._socket = alive(self._socket, self._task.endpoint)
        self._socket.sendall(get_request(self._task, key))
        data = self._socket.recv(4096)
        body, length = parse_head(data)
        at = len(data) - body
        view[:at] = data[body:]
        while at < length:
            # One call moves at most 2 GiB.
            at += receive(self._socket, view[at:], _WAIT_ALL)


def _reads(task: Task, getter: LargeGet | _BlockingGet) -> Subject:
    def run(_: Sink) -> bytes:
        target = BytesTarget(task.size)
        getter.fill(target.view, task.keys[0])
        return target.result()

    def run_into(_: Sink) -> memoryview:
        view = memoryview(fresh_map(task.size))
        getter.fill(view, task.keys[0])
        return view

    return Subject(run_into if task.options.get("into") else run)


def large_get(task: Task) -> Subject:
    """One large object on ``connections`` connections (option; 8 by default), one loop."""
    return _reads(task, LargeGet(task, task.options.get("connections", 8)))


def large_get_blocking(task: Task) -> Subject:
    """One large object on one blocking connection."""
    return _reads(task, _BlockingGet(task))


def write(task: Task) -> Subject:
    """One object by one PUT."""
    data = memoryview(bytes(task.size))
    head = put_request(task, task.size)
    connection = connect(task.endpoint)

    def run(_: Sink) -> None:
        nonlocal connection
        connection = alive(connection, task.endpoint)
        connection.sendall(head)
        connection.sendall(data)
        check_put(connection)

    return Subject(run)


def serial_http_client(task: Task) -> Subject:
    """Objects one by one with ``http.client``."""
    host, port = address_of(task.endpoint)
    connection = http.client.HTTPConnection(host, port)

    def run(sink: Sink) -> None:
        if connection.sock is not None and is_closed(connection.sock):
            connection.close()  # and it connects anew
        for key in task.keys:
            connection.request("GET", f"/{task.bucket}/{key}")
            sink(connection.getresponse().read())

    return Subject(run)


def serial_socket(task: Task) -> Subject:
    """Objects one by one on a blocking socket."""
    connection = connect(task.endpoint)
    scratch = memoryview(bytearray(4 * HEAD_BYTES))

    def run(sink: Sink) -> None:
        nonlocal connection
        connection = alive(connection, task.endpoint)
        for key in task.keys:
            connection.sendall(get_request(task, key))
            got = connection.recv_into(scratch)
            body, length = parse_head(scratch[: min(got, 1024)])
            if body + length <= scratch.nbytes:
                while got < body + length:
                    got += receive(connection, scratch[got : body + length], _WAIT_ALL)
                sink(bytes(scratch[body : body + length]))
                continue
            target = BytesTarget(length)
            at = got - body
            target.view[:at] = scratch[body:got]
            while at < length:
                at += receive(connection, target.view[at:], _WAIT_ALL)
            sink(target.result())

    return Subject(run)


class _ObjectConnection:
    """Receives one object after the other."""

    __slots__ = ("at", "index", "parts", "socket", "want")

    def __init__(self, endpoint: str) -> None:
        self.socket = _open(endpoint)
        self.index = 0
        self.parts: BytesTarget | None = None
        self.at = 0
        self.want = 0

    def advance(self, scratch: memoryview) -> bytes | None:
        """Receive what there is; return the object when it is complete."""
        if self.parts is None:
            got = self.socket.recv_into(scratch)
            body, length = parse_head(scratch[: min(got, 1024)])
            if got == body + length:
                return bytes(scratch[body:got])
            self.parts, self.at, self.want = BytesTarget(length), got - body, length
            self.parts.view[: self.at] = scratch[body:got]
        view = self.parts.view
        while self.at < self.want:
            try:
                self.at += receive(self.socket, view[self.at :])
            except BlockingIOError:
                return None
        parts, self.parts = self.parts, None
        return parts.result()


class ManyGet:
    """Objects in order, ``window`` in flight, one loop that runs only while the consumer waits."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._connections = [_ObjectConnection(task.endpoint) for _ in range(task.window)]
        self._selector = _watch(self._connections)
        self._scratch = memoryview(bytearray(4 * HEAD_BYTES))

    def requests(self, keys: Iterable[str]) -> list[bytes]:
        """Return the requests for objects."""
        return [get_request(self._task, key) for key in keys]

    def get(self, requests: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the answers' bodies, in order; one that is given up leaves this unusable."""
        _reopen(self._selector, self._task.endpoint)
        done: dict[int, bytes] = {}
        idle = deque(self._connections)
        started = 0
        for wanted in range(len(requests)):
            while True:
                while idle and started < min(len(requests), wanted + self._task.window):
                    connection = idle.popleft()
                    connection.index = started
                    connection.socket.send(requests[started])
                    started += 1
                if wanted in done:
                    break
                for event, _ in self._selector.select():
                    connection = event.data
                    data = connection.advance(self._scratch)
                    if data is not None:
                        done[connection.index] = data
                        idle.append(connection)
            yield done.pop(wanted)


def many(task: Task) -> Subject:
    """Objects in order, ``window`` in flight, one loop that runs only while the consumer waits."""
    getter = ManyGet(task)
    requests = getter.requests(task.keys)

    def run(sink: Sink) -> None:
        for data in getter.get(requests):
            sink(data)

    return Subject(run)


def held(task: Task) -> Subject:
    """Objects in memory, where the first run leaves them: what is left is what the consumer does with them."""
    getter = ManyGet(task)
    objects: list[bytes] = []

    def run(sink: Sink) -> None:
        if not objects:
            objects.extend(getter.get(getter.requests(task.keys)))
        for data in objects:
            sink(data)

    return Subject(run)
