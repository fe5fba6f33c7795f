"""moto, an S3 that runs anywhere, in a process of its own.

In the client's process it would share the client's GIL, and every measurement and every race would be another one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass

from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers._serving import S3ProcessServer

_RECORDER_PATH = "/_s3torch/requests"
_CALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as the server received it."""

    method: str
    """The HTTP method."""
    path: str
    """The decoded path: ``/bucket/key`` when addressed by path."""
    query: str
    """The query string as sent, without ``?``."""
    headers: dict[str, str]
    """Those of the headers that tests ask about, names in lower case: range, conditions, authorization, user agent,
    content length."""
    status: int
    """The status answered; 0 while the request is still being answered."""
    peer: str
    """Address and port of the client: equal for requests on one connection."""


class MotoServer(S3ProcessServer):
    """A moto server in a process of its own; a context manager.

    Every exit ends the server: leaving the block, an exception, Ctrl-C, the end of the interpreter, even SIGKILL.

    Args:
        start_timeout: Seconds until the server must answer.

    Raises:
        ServerError: On entering, if the server does not start; the message ends with what it printed.
    """

    _title = "the moto server"

    def __init__(self, *, start_timeout: float = 60.0) -> None:
        super().__init__(start_timeout=start_timeout)

    def create_bucket(self, name: str) -> str:
        """Create a bucket.

        Args:
            name: Its name.

        Returns:
            The name.
        """
        status, body = self._call("PUT", f"/{name}")
        if status != 200:
            raise ServerError(f"moto did not create bucket {name!r}: status {status}: {body.decode(errors='replace')}")
        return name

    def reset(self) -> None:
        """Forget every bucket and object."""
        self._call("POST", "/moto-api/reset")

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[RecordedRequest]]:
        """Record the requests that the server receives within the ``with`` block.

        Yields:
            A list that is filled when the block ends. Call ``requests()`` to look in between.
        """
        found: list[RecordedRequest] = []
        self._call("PUT", _RECORDER_PATH)
        try:
            yield found
        finally:
            found.extend(self.requests())
            self._call("DELETE", _RECORDER_PATH)

    def requests(self) -> list[RecordedRequest]:
        """Return the requests recorded so far within ``recording``, in order of arrival."""
        return [RecordedRequest(**record) for record in json.loads(self._call("GET", _RECORDER_PATH)[1])]

    def _launch(self) -> None:
        self._run_module("s3torch.harness.servers._moto_process")
        self._call("GET", "/")

    def _call(self, method: str, path: str) -> tuple[int, bytes]:
        process = self._running()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECONDS)
        try:
            connection.request(method, path, headers={"Host": f"127.0.0.1:{self._port}", "Content-Length": "0"})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError as error:
            raise ServerError(f"the moto server does not answer: {error}\n{process.output()}") from error
        finally:
            connection.close()
