"""The floor over TLS, in the two shapes that measure best; the faster of them counts.

A blocking ``SSLSocket`` decrypts one record of 16 KiB per call, so it needs threads; an ``ssl.MemoryBIO`` fed with
large socket reads decrypts many per read, on few connections.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, cast

from s3torch.harness.bench.subjects.floor_http import PART
from s3torch.harness.bench.subjects.memory import BytesTarget, advise_huge, fresh_map
from s3torch.harness.bench.subjects.sockets import (
    address_of,
    connect,
    get_request,
    is_closed,
    parse_head,
    receive,
)
from s3torch.harness.bench.subjects.task import Sink, Subject, Task

_SOCKET_READ = 512 * 1024
_HEAD_READ = 4096


class _BlockingConnection:
    """A TLS connection that receives by blocking calls."""

    def __init__(self, task: Task, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(connect(task.endpoint), server_hostname=address_of(task.endpoint)[0])

    def is_closed(self) -> bool:
        return is_closed(self._socket)

    def close(self) -> None:
        self._socket.close()

    def get(self, request: bytes, view: memoryview) -> None:
        self._socket.sendall(request)
        data = self._socket.recv(_HEAD_READ)
        body, length = parse_head(data)
        at = len(data) - body
        view[:at] = data[body:]
        while at < length:
            at += receive(self._socket, view[at:])


class _MemoryConnection:
    """A TLS connection whose records pass through memory: one socket read, many records."""

    def __init__(self, task: Task, context: ssl.SSLContext) -> None:
        self._socket = connect(task.endpoint)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=address_of(task.endpoint)[0])
        self._buffer = bytearray(_SOCKET_READ)
        self._view = memoryview(self._buffer)
        self._until_done(self._tls.do_handshake)

    def is_closed(self) -> bool:
        return is_closed(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _until_done(self, call: Callable[[], None]) -> None:
        while True:
            try:
                call()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            else:
                self._flush()
                return

    def _flush(self) -> None:
        if self._to_send.pending:
            self._socket.sendall(self._to_send.read())

    def _receive(self) -> None:
        self._received.write(self._view[: receive(self._socket, self._view)])

    def get(self, request: bytes, view: memoryview) -> None:
        self._tls.write(request)
        self._flush()
        data = self._read_head()
        body, length = parse_head(data)
        at = len(data) - body
        view[:at] = data[body:]
        # With a buffer to fill it returns how much it filled, which typeshed does not know.
        read: Callable[[int, memoryview], int] = cast("Any", self._tls.read)
        while at < length:
            try:
                got = read(length - at, view[at:])
            except ssl.SSLWantReadError:
                self._receive()
                continue
            if not got:
                raise ConnectionError("the server closed the connection")
            at += got

    def _read_head(self) -> bytes:
        while True:
            try:
                return self._tls.read(_HEAD_READ)
            except ssl.SSLWantReadError:
                self._receive()


class _Threads:
    """One object in parts, each connection in a thread of its own."""

    def __init__(self, task: Task, kind: type[_BlockingConnection | _MemoryConnection], count: int) -> None:
        self._task, self._kind = task, kind
        self._context = ssl.create_default_context(cafile=task.ca_bundle)
        self._connections = [kind(task, self._context) for _ in range(count)]

    def fill(self, view: memoryview) -> None:
        advise_huge(view)
        self._reopen()
        task, starts, errors = self._task, SimpleQueue[int](), list[BaseException]()
        for start in range(0, task.size, PART):
            starts.put(start)

        def work(connection: _BlockingConnection | _MemoryConnection) -> None:
            try:
                for start in _drain(starts):
                    stop = min(start + PART, task.size)
                    connection.get(get_request(task, task.keys[0], start, stop), view[start:stop])
            except BaseException as error:  # noqa: BLE001  # raised where the threads are waited for
                errors.append(error)

        threads = [threading.Thread(target=work, args=(each,)) for each in self._connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _reopen(self) -> None:
        """Replace the connections that the server has hung up on."""
        for number, connection in enumerate(self._connections):
            if connection.is_closed():
                connection.close()
                self._connections[number] = self._kind(self._task, self._context)


def _drain(queue: SimpleQueue[int]) -> Iterator[int]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def _reads(task: Task, threads: _Threads) -> Subject:
    def run(_: Sink) -> bytes:
        target = BytesTarget(task.size)
        threads.fill(target.view)
        return target.result()

    def run_into(_: Sink) -> memoryview:
        view = memoryview(fresh_map(task.size))
        threads.fill(view)
        return view

    return Subject(run_into if task.options.get("into") else run)


def large_get_blocking(task: Task) -> Subject:
    """One large object, ``threads`` (option; 3 by default) blocking ``SSLSocket``s."""
    return _reads(task, _Threads(task, _BlockingConnection, task.options.get("threads", 3)))


def large_get_memory(task: Task) -> Subject:
    """One large object, ``threads`` (option; 2 by default) connections through ``MemoryBIO``."""
    return _reads(task, _Threads(task, _MemoryConnection, task.options.get("threads", 2)))
