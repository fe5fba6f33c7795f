"""Keep-alive for the WSGI server that moto runs on.

werkzeug closes the connection after each response, because an application may leave some of a body unread. S3 keeps
connections open, so a client measured or tested against one connection per request is not the client that users run.
"""

from __future__ import annotations

import io
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class KeepAliveHandler(WSGIRequestHandler):
    """Answers any number of requests on a connection: reads each body whole, answers with its length."""

    protocol_version = "HTTP/1.1"
    # A head and a body in two segments would otherwise wait for the client's delayed ACK, 40 ms each time.
    disable_nagle_algorithm = True
    # One write for head and body; `wfile` is flushed after each response.
    wbufsize = 64 * 1024

    def run_wsgi(self) -> None:
        """Answer one request; called by the base class in a loop until the connection is to be closed."""
        self.environ = environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(_read_body(environ))
        status, headers, body = 500, [("Content-Type", "text/plain")], b""
        written: list[bytes] = []

        def start_response(line: str, fields: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            nonlocal status, headers
            status, headers = int(line.split(maxsplit=1)[0]), fields
            return written.append

        try:
            chunks = self.server.app(environ, start_response)
            try:
                body = b"".join((*written, *chunks))
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
        except Exception:  # noqa: BLE001 - whatever the application raised, the client gets an answer
            status, headers, body = 500, [("Content-Type", "text/plain")], traceback.format_exc().encode()
        self._send(status, headers, body)

    def handle_expect_100(self) -> bool:
        """Ask for the body at once."""
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wfile.flush()
        return True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are recorded, not printed."""

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        has_body = self.command != "HEAD" and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        names = {name.lower() for name, _ in headers}
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length" or not has_body:
                self.send_header(name, value)
        if has_body:
            self.send_header("Content-Length", str(len(body)))
        elif "content-length" not in names and status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if has_body:
            self.wfile.write(body)
        self.wfile.flush()


def _read_body(environ: WSGIEnvironment) -> bytes:
    """Read the whole body, so that the next request on the connection starts where this one ended."""
    stream: io.BufferedIOBase = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return stream.read()
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return stream.read(length) if length else b""
