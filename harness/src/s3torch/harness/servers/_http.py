"""What the small HTTP servers share: a thread for each connection, which stays open, and no word on the way."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from s3torch.harness.servers import _lifeline

__all__ = ["QuietHandler", "QuietServer", "serve"]


class QuietServer(ThreadingHTTPServer):
    """A server on a free port of the loopback interface."""

    daemon_threads = True
    # A client may open very many at once.
    request_queue_size = 512

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, *_: object) -> None:
        """The client sees that its connection is closed."""


class QuietHandler(BaseHTTPRequestHandler):
    """Answers any number of requests on a connection.

    Subclasses name ``BaseHTTPRequestHandler`` beside it: by that the linter knows their ``do_GET``.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def serve(server: QuietServer, port_file: Path) -> None:
    """Be a server's own process: serve until standard input ends.

    Args:
        server: The server.
        port_file: Where the port number goes, written at once, when the server listens.
    """
    _lifeline.watch(lambda: os._exit(0))
    _lifeline.announce(server.server_port, port_file)
    server.serve_forever()
