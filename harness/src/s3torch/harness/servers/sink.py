"""A server that takes every upload and keeps nothing, at hardly any cost: for measuring who sends.

Linux drops what has arrived on a TCP connection within the kernel when ``recv`` is given ``MSG_TRUNC`` (tcp(7)), so the
server spends a small part of what a client does, also where both share the same processors. Elsewhere it reads.

Run as ``python -m s3torch.harness.servers.sink PORT_FILE [KEY...]`` it is the server's own process.
"""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from s3torch.harness.servers._http import QuietHandler, QuietServer, serve
from s3torch.harness.servers._serving import S3ProcessServer

__all__ = ["Sink"]

_START_SECONDS = 30.0
_ETAG = '"dropped"'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_NOT_KEPT = b"<Error><Code>NoSuchKey</Code><Message>What is uploaded here is not kept.</Message></Error>"
_IS_DROPPED_BY_KERNEL = sys.platform == "linux"
# One call for as much as there is to come: the thread then sleeps in the kernel, without Python's lock.
_FLAGS = socket.MSG_TRUNC | socket.MSG_WAITALL if _IS_DROPPED_BY_KERNEL else 0
# All threads share it, since nobody looks at what is in it; where nothing is written to it, it takes no memory.
_NOWHERE = memoryview(bytearray(64 * 1024 * 1024 if _IS_DROPPED_BY_KERNEL else 256 * 1024))


class Sink(S3ProcessServer):
    """A server that takes every upload and keeps nothing; a context manager.

    Every bucket is there and empty. Objects and parts may be of any size; copying and deleting always succeed.

    Args:
        present: ``BUCKET/KEY`` of objects that HEAD finds all the same, with one byte each.
        start_timeout: Seconds until it must answer.

    Raises:
        ServerError: On entering, if it does not start; the message ends with what it printed.
    """

    _title = "the sink"

    def __init__(self, *, present: Iterable[str] = (), start_timeout: float = _START_SECONDS) -> None:
        super().__init__(start_timeout=start_timeout)
        self._present = tuple(present)

    def _launch(self) -> None:
        self._run_module(__name__, *self._present)


class _Server(QuietServer):
    def __init__(self, present: Iterable[str]) -> None:
        super().__init__(_Handler)
        self.present = frozenset(present)
        self.upload_ids = itertools.count(1)


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    rbufsize = 8192
    # One write for head and body.
    wbufsize = -1
    server: _Server

    def handle_expect_100(self) -> bool:
        """Ask for the body at once."""
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def do_PUT(self) -> None:
        """Take an object or a part, or pretend to copy."""
        self._drop_body()
        if "x-amz-copy-source" in self.headers:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._answer_document("CopyObjectResult", ETag=_ETAG, LastModified=now)
        else:
            self._answer(200, ETag=_ETAG)

    def do_POST(self) -> None:
        """Begin or complete an upload in parts, or pretend to delete."""
        self._drop_body()
        target = urlsplit(self.path)
        bucket, _, key = unquote(target.path[1:]).partition("/")
        query = parse_qs(target.query, keep_blank_values=True)
        if "uploads" in query:
            upload_id = str(next(self.server.upload_ids))
            self._answer_document("InitiateMultipartUploadResult", Bucket=bucket, Key=key, UploadId=upload_id)
        elif "uploadId" in query:
            self._answer_document("CompleteMultipartUploadResult", Bucket=bucket, Key=key, ETag=_ETAG)
        else:
            self._answer_document("DeleteResult")

    def do_GET(self) -> None:
        """Show an empty bucket, and no object."""
        bucket, _, key = urlsplit(self.path).path[1:].partition("/")
        if key:
            self._answer(404, _NOT_KEPT, Content_Type="application/xml")
        elif bucket:
            self._answer_document("ListBucketResult", Name=bucket, KeyCount="0", MaxKeys="1000", IsTruncated="false")
        else:
            self._answer_document("ListAllMyBucketsResult")

    def do_HEAD(self) -> None:
        """Find every bucket, and the objects that are said to be there."""
        name = unquote(urlsplit(self.path).path[1:])
        if "/" not in name.rstrip("/"):
            self._answer(200)
        elif name in self.server.present:
            self._answer(200, ETag=_ETAG, Last_Modified=self.date_time_string(), Content_Length="1")
        else:
            self._answer(404)

    def do_DELETE(self) -> None:
        """Pretend to delete, or to give an upload up."""
        self._answer(204)

    def _drop_body(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        if left:
            # What came with the head lies in this buffer.
            left -= len(self.rfile.read1(min(left, self.rbufsize)))
        while left:
            dropped = self.connection.recv_into(_NOWHERE, min(left, len(_NOWHERE)), _FLAGS)
            if not dropped:
                raise ConnectionResetError("the client hung up within a body")
            left -= dropped

    def _answer_document(self, root: str, **elements: str) -> None:
        content = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements.items())
        body = f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="{_NAMESPACE}">{content}</{root}>'
        self._answer(200, body.encode(), Content_Type="application/xml")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        # With date and server: a head without any header is no answer to some clients.
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204 and "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    serve(_Server(sys.argv[2:]), Path(sys.argv[1]))
