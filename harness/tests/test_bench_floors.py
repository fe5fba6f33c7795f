"""The floors outlive a store that hangs up while others take their turn, and fail where it hangs up on an answer."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3torch.harness.bench.process import SubjectHere
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire, object_answer

# Subjects end with their process, not before.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore::ResourceWarning")]

DATA = os.urandom(9 * 1024 * 1024 + 1)
SMALL = DATA[:1_000_000]
READS = [
    "floor_http:large_get",
    "floor_http:large_get_blocking",
    "floor_http:serial_http_client",
    "floor_http:serial_socket",
    "floor_http:many",
    "floor_http:held",
    "floor_tls:large_get_blocking",
    "floor_tls:large_get_memory",
]
WRITES = ["floor_http:write", "floor_torch:save"]


class Store:
    """A store of one object, of any name, that hangs up on its clients when it is told to."""

    def __init__(self, tls: Path | None, data: bytes, sends: int | None = None) -> None:
        self._get = object_answer(data, sends=None if sends is None else [sends] * 100)
        self._is_cut = sends is not None
        self._socks: list[socket.socket] = []
        self.server = ScriptedServer(self._answer, tls=tls)

    def _answer(self, request: Request, wire: Wire) -> None:
        self._socks.append(wire.sock)
        if request.method != "PUT":
            self._get(request, wire)
        elif self._is_cut:
            wire.read_body(10)
            wire.close()
        else:
            wire.read_body()
            wire.respond()

    def hang_up(self) -> None:
        """Close every connection that something has come on."""
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._socks.clear()


Launch = Callable[..., tuple[SubjectHere, Store]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Sets up a floor against a store of its own."""
    with contextlib.ExitStack() as stack:

        def start(subject: str, data: bytes, sends: int | None = None) -> tuple[SubjectHere, Store]:
            store = Store(tmp_path if subject.startswith("floor_tls:") else None, data, sends)
            server = stack.enter_context(store.server)
            certificates = server.certificates
            task = Task(
                server.endpoint,
                "bucket",
                ["key"],
                len(data),
                ca_bundle=str(certificates.ca_bundle) if certificates else None,
                window=2,
                options={"tensors": 2, "tensor_size": 400_000, "connections": 2},
            )
            return stack.enter_context(SubjectHere("", subject, task, env={}, timeout=0)), store

        yield start


@pytest.mark.parametrize("subject", [*READS, *WRITES])
def test_connects_anew_where_the_store_has_hung_up_since_the_last_run(launch: Launch, subject: str) -> None:
    data = DATA if ":large" in subject else SMALL
    process, store = launch(subject, data)
    for _ in range(3):
        run = process.run(check=True)
        if subject in READS:
            assert (run.size, run.crc) == (len(data), zlib.crc32(data))
        store.hang_up()


@pytest.mark.parametrize("subject", [*READS, *WRITES])
@pytest.mark.parametrize("sends", [0, 100_000])
def test_fails_where_an_answer_is_cut_short(launch: Launch, subject: str, sends: int) -> None:
    process, _ = launch(subject, DATA if ":large" in subject else SMALL, sends)
    # torch makes an error of its own of whatever a file raises.
    with pytest.raises((ConnectionError, http.client.IncompleteRead, RuntimeError)):
        process.run(check=True)


@pytest.mark.parametrize("subject", [each for each in READS if "http_client" not in each])
def test_fails_where_there_is_no_answer_at_all(launch: Launch, subject: str) -> None:
    process, store = launch(subject, SMALL)
    store.server.answer = lambda _, wire: wire.close()
    with pytest.raises(ConnectionError, match="the server closed the connection"):
        process.run(check=True)
