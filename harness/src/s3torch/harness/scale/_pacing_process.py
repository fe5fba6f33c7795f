"""The pacing server's own process: one thread for each connection, a fixed wait before each answer, a cap on each rate.

Run as ``python -m s3torch.harness.scale._pacing_process PORT_FILE FIRST_BYTE RATE [CERTIFICATE KEY]``. It knows as
much of S3 as the measurements of this package need: an object exists if its key ends in its size (``/bucket/x-110000``)
and holds zeros; uploads are read and dropped.
"""

from __future__ import annotations

import os
import socketserver
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from s3torch.harness.servers import _lifeline

_LEAST_SLICE = 64 * 1024
_SLICE_SECONDS = 0.005
_BLOCK = memoryview(bytes(8 * 1024 * 1024))
_ETAG = '"00000000000000000000000000000000"'
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]


class _Handler(socketserver.StreamRequestHandler):
    """Answers the requests of one connection, one after the other."""

    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        try:
            while (request := self._read_request()) is not None:
                self._answer(request)
        except OSError:  # the client has closed, as clients do
            return

    def _read_request(self) -> _Request | None:
        first = self.rfile.readline(65536).split()
        if len(first) != 3:
            return None
        headers = {}
        while line := self.rfile.readline(65536).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = int(headers.get("content-length") or 0)
        started = time.monotonic()
        length = left
        while left:
            got = len(self.rfile.read1(min(left, _BLOCK.nbytes)))
            if not got:
                return None
            left -= got
            self._wait(started, length - left)
        path, _, query = first[1].decode("latin-1").partition("?")
        return _Request(first[0].decode("latin-1"), path, query, headers)

    def _answer(self, request: _Request) -> None:
        if self.server.first_byte:
            time.sleep(self.server.first_byte)
        if request.method in ("GET", "HEAD") and "uploadId" not in request.query:
            self._answer_object(request)
        elif request.method == "POST" and request.query.startswith("uploads"):
            self._send_xml("InitiateMultipartUploadResult", "<UploadId>1</UploadId>")
        elif request.method == "POST":
            self._send_xml("CompleteMultipartUploadResult", f"<ETag>{_ETAG}</ETag>")
        else:
            self._send(204 if request.method == "DELETE" else 200, "")

    def _answer_object(self, request: _Request) -> None:
        number = request.path.rpartition("-")[2]
        if not number.isdigit():
            self._send(404, "" if request.method == "HEAD" else f"{_XML}<Error><Code>NoSuchKey</Code></Error>")
            return
        size = int(number)
        start, stop, status, more = 0, size, 200, ""
        if (asked := request.headers.get("range", "")).startswith("bytes="):
            first, _, last = asked[6:].partition("-")
            start, stop = int(first), min(int(last or size) + 1, size)
            status, more = 206, f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n"
        self._send_head(status, stop - start, more)
        if request.method == "GET":
            self._send_zeros(stop - start)

    def _send_xml(self, name: str, content: str) -> None:
        self._send(200, f"{_XML}<{name}>{content}</{name}>")

    def _send(self, status: int, body: str) -> None:
        self._send_head(status, len(body), "", body)

    def _send_head(self, status: int, length: int, more: str, body: str = "") -> None:
        framing = f"Content-Length: {length}\r\n" if status != 204 else ""
        head = f"HTTP/1.1 {status} x\r\nETag: {_ETAG}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        self.wfile.write(f"{head}{framing}{more}\r\n{body}".encode("latin-1"))

    def _send_zeros(self, length: int) -> None:
        started = time.monotonic()
        rate = self.server.rate
        step = max(_LEAST_SLICE, int(rate * _SLICE_SECONDS)) if rate else _BLOCK.nbytes
        sent = 0
        while sent < length:
            size = min(step, length - sent, _BLOCK.nbytes)
            sent += size
            # A slice leaves when a line of that rate would have carried it.
            self._wait(started, sent)
            self.connection.sendall(_BLOCK[:size])

    def _wait(self, started: float, moved: int) -> None:
        if self.server.rate:
            early = started + moved / self.server.rate - time.monotonic()
            if early > 0:
                time.sleep(early)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, first_byte: float, rate: float, certificate: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first_byte = first_byte
        self.rate = rate
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake belongs to the connection's thread, and happens at its first read.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """The client sees that its connection is closed."""


def main(arguments: list[str]) -> None:
    """Serve until standard input ends.

    Args:
        arguments: Where the port number goes, seconds to the first byte, bytes a second (0 for no cap), and the files
            of a certificate and its key for TLS.
    """
    _lifeline.watch(lambda: os._exit(0))
    # Threads that sleep until their slice is due must get the interpreter when it is.
    sys.setswitchinterval(0.0005)
    port_file = Path(arguments[0])
    server = _Server(float(arguments[1]), float(arguments[2]), arguments[3:])
    _lifeline.announce(server.server_address[1], port_file)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
