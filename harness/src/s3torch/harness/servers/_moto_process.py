"""The moto server's own process: serves until its standard input ends, records requests when asked to.

Run as ``python -m s3torch.harness.servers._moto_process PORT_FILE``. It takes a free port of the loopback interface and
writes the number to ``PORT_FILE`` when it listens.

Beside S3 it answers ``/_s3torch/requests``: ``GET`` returns the recorded requests as JSON, ``PUT`` forgets them and
starts recording, ``DELETE`` stops it. (moto's own recorder keeps request bodies, and stores them in a file.)
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3torch.harness.servers import _lifeline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RECORDER_PATH = "/_s3torch/requests"
_KEPT_HEADERS = ("range", "if-match", "if-none-match", "authorization", "user-agent", "content-length")


class Recorder:
    """WSGI middleware that notes each request that passes while recording is on.

    Args:
        app: The application that answers.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._on = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == RECORDER_PATH:
            return self._answer(environ["REQUEST_METHOD"], start_response)
        if not self._on:
            return self._app(environ, start_response)
        return self._record(environ, start_response)

    def _answer(self, method: str, start_response: StartResponse) -> Iterator[bytes]:
        with self._lock:
            if method != "GET":
                self._records = []
                self._on = method == "PUT"
            body = json.dumps(self._records).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return iter([body])

    def _record(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = {name: environ.get("HTTP_" + name.upper().replace("-", "_")) for name in _KEPT_HEADERS}
        headers["content-length"] = environ.get("CONTENT_LENGTH")
        record = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
            "query": environ.get("QUERY_STRING", ""),
            "headers": {name: value for name, value in headers.items() if value},
            "status": 0,
            "peer": f"{environ.get('REMOTE_ADDR')}:{environ.get('REMOTE_PORT')}",
        }

        def start(status: str, response_headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            record["status"] = int(status.split(maxsplit=1)[0])
            return start_response(status, response_headers, exc_info)

        with self._lock:
            self._records.append(record)
        return self._app(environ, start)


def main(port_file: Path) -> None:
    """Serve until standard input ends.

    Args:
        port_file: Where the port number goes, written at once, when the server listens.
    """
    _lifeline.watch(lambda: os._exit(0))

    # Imported late: a starter that is gone already ends this process without waiting for moto.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    from s3torch.harness.servers._wsgi_handler import KeepAliveHandler

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        Recorder(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=KeepAliveHandler,
    )
    # Threads of connections that a client keeps open must not delay the end.
    vars(server)["daemon_threads"] = True
    _lifeline.announce(server.server_port, port_file)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
