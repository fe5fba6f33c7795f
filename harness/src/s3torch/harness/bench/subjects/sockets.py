"""What the floors send and receive on plain sockets: requests, heads, and connections that a store may hang up on."""

from __future__ import annotations

import select
import socket
from urllib.parse import urlsplit

from s3torch.harness.bench.subjects.task import Task

HEAD_BYTES = 65536
"""More than any head takes."""


def address_of(endpoint: str) -> tuple[str, int]:
    """Split an endpoint's URL into host and port."""
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def host_of(endpoint: str) -> str:
    """Return the ``Host`` of requests: without the scheme's own port, which signatures do not have either."""
    return urlsplit(endpoint).netloc


def connect(endpoint: str) -> socket.socket:
    """Open a connection without Nagle's delay."""
    found = socket.create_connection(address_of(endpoint))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has hung up on a connection that waits for nothing, as stores do while others take turns."""
    return bool(select.select([connection], [], [], 0)[0])


def alive(connection: socket.socket, endpoint: str) -> socket.socket:
    """Return the connection, or a new one where the server has hung up."""
    if not is_closed(connection):
        return connection
    connection.close()
    return connect(endpoint)


def receive(connection: socket.socket, view: memoryview, flags: int = 0) -> int:
    """Receive what there is, at least one byte, and return how much."""
    got = connection.recv_into(view, 0, flags)
    if not got:
        raise ConnectionError("the server closed the connection")
    return got


def get_request(task: Task, key: str, start: int | None = None, stop: int | None = None) -> bytes:
    """Return a GET of an object, or of its bytes from ``start`` up to ``stop``."""
    head = f"GET /{task.bucket}/{key} HTTP/1.1\r\nHost: {host_of(task.endpoint)}\r\n"
    if start is not None and stop is not None:
        head += f"Range: bytes={start}-{stop - 1}\r\n"
    return (head + "\r\n").encode()


def put_request(task: Task, size: int) -> bytes:
    """Return the head of a PUT of ``size`` bytes."""
    host = host_of(task.endpoint)
    return f"PUT /{task.bucket}/{task.keys[0]} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n".encode()


def check_put(connection: socket.socket) -> None:
    """Receive the answer to a PUT."""
    answer = connection.recv(HEAD_BYTES)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(answer.decode("latin-1") or "the server closed the connection")


def parse_head(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Return where the body starts, and its length."""
    head, found, _ = bytes(data).partition(b"\r\n\r\n")
    if not found:
        raise ConnectionError("the head came in pieces" if head else "the server closed the connection")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")):
        raise ConnectionError(head.decode("latin-1"))
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + 4, int(value)
    raise ConnectionError("no content length")
