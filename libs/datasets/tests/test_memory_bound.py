"""The memory of a process that reads a dataset is bounded by the window, whatever the sizes of the objects."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

MIB = 2**20
WINDOW_BYTES = 32 * MIB
PART_SIZE = 5 * MIB
# Beside the window: what the reader of a large object holds (a part that is read and those ahead of it), one object
# that was handed out, and what the interpreter takes for itself.
READ_AHEAD = 2
BESIDE = (READ_AHEAD + 2) * PART_SIZE + 24 * MIB

_CHILD = """
import json, sys
from s3torch.client import ObjectInfo, S3BucketKeyData, S3ClientConfig
from s3torch.datasets import S3IterableDataset

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def read(reader):
    size = 0
    while data := reader.read(2**20):
        size += len(data)
    return size

def run(sizes):
    def choose(_):
        for number, (size, is_known) in enumerate(sizes):
            key = f"{size}-{number}"
            yield S3BucketKeyData("bucket", key, ObjectInfo(key, '"zeros"', size, 0) if is_known else None)
    dataset = S3IterableDataset(
        "us-east-1", choose, settings["endpoint"], read,
        S3ClientConfig(unsigned=True, force_path_style=True, window_bytes=settings["window_bytes"],
                       part_size=settings["part_size"], read_ahead=settings["read_ahead"]),
    )
    return list(dataset)

settings = json.load(sys.stdin)
run([(1000, True), (0, True), (2**20, True), (1000, False)] * 5)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
read_sizes = run(settings["sizes"])
print(json.dumps({"grown": status("VmHWM") - before, "sizes": read_sizes}))
"""


class ZeroServer:
    """Objects of zeros, of the size that their key begins with; as fast as a test may be."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._zeros = memoryview(bytes(MIB))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in received:
                    try:
                        data = connection.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    received += data
                head, _, received = received.partition(b"\r\n\r\n")
                try:
                    self._answer(connection, head.decode())
                except OSError:
                    return

    def _answer(self, connection: socket.socket, head: str) -> None:
        size = int(head.split(" ")[1].rsplit("/", 1)[1].split("-", maxsplit=1)[0])
        spans = [line for line in head.split("\r\n") if line.lower().startswith("range:")]
        first, end = 0, size
        status = "200 OK\r\n"
        if spans:
            begin, _, last = spans[0].split("=")[1].partition("-")
            first, end = int(begin), min(size, int(last) + 1 if last else size)
            if first >= size:
                connection.sendall(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
                return
            status = f"206 Partial Content\r\nContent-Range: bytes {first}-{end - 1}/{size}\r\n"
        connection.sendall(f'HTTP/1.1 {status}Content-Length: {end - first}\r\nETag: "zeros"\r\n\r\n'.encode())
        if head.startswith("HEAD"):
            return
        left = end - first
        while left:
            sent = min(left, MIB)
            connection.sendall(self._zeros[:sent])
            left -= sent


@pytest.fixture
def zeros() -> Iterator[ZeroServer]:
    with closing(ZeroServer()) as server:
        yield server


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads the peak of memory from /proc")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sizes_from_nothing_to_two_gibibytes(zeros: ZeroServer) -> None:
    small = [(0, True), (1, True), (110_000, True), (3 * MIB, True), (PART_SIZE, True), (0, False), (200_000, False)]
    sizes = [
        *small * 8,
        (2 * 2**30, True),
        *[(PART_SIZE, True)] * 30,
        (40 * MIB, True),
        (40 * MIB, False),
        *[(3 * MIB, False)] * 20,
        *small * 8,
        *[(110_000, True)] * 500,
    ]
    settings = {
        "endpoint": zeros.endpoint,
        "window_bytes": WINDOW_BYTES,
        "part_size": PART_SIZE,
        "read_ahead": READ_AHEAD,
        "sizes": sizes,
    }
    child = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["sizes"] == [size for size, _ in sizes]
    assert found["grown"] <= WINDOW_BYTES + BESIDE, f"{found['grown'] / MIB:.0f} MiB"
