"""moto, an S3 that runs anywhere, in a process of its own.

In the client's process it would share the client's GIL, and every measurement and every race would be another one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3torch.harness.servers._address import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    dummy_environment,
    foreign_variables,
    make_boto3_client,
)
from s3torch.harness.servers._process import ServerError, ServerProcess

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

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


class MotoServer:
    """A moto server in a process of its own; a context manager.

    Every exit ends the server: leaving the block, an exception, Ctrl-C, the end of the interpreter, even SIGKILL.

    Args:
        start_timeout: Seconds until the server must answer.

    Raises:
        ServerError: On entering, if the server does not start; the message ends with what it printed.
    """

    region = REGION
    """The region to give to clients."""
    access_key = ACCESS_KEY
    """A dummy access key id."""
    secret_key = SECRET_KEY
    """A dummy secret access key."""

    def __init__(self, *, start_timeout: float = 60.0) -> None:
        self._start_timeout = start_timeout
        self._process: ServerProcess | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<MotoServer {self.endpoint if self._process else 'stopped'}>"

    @property
    def endpoint(self) -> str:
        """The server's URL, ``http://127.0.0.1:PORT``."""
        if self._process is None:
            raise ServerError("the moto server is not running; use it as a context manager or call start()")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._process is None:
            raise ServerError("the moto server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; prefer the ``with`` statement."""
        if self._process is not None:
            return
        env = {name: value for name, value in os.environ.items() if name not in foreign_variables(os.environ)}
        with tempfile.TemporaryDirectory(prefix="s3torch-moto-") as directory:
            port_file = Path(directory, "port")
            command = [sys.executable, "-m", "s3torch.harness.servers._moto_process", str(port_file)]
            process = ServerProcess(command, env={**env, **dummy_environment()})
            try:
                process.wait_until(port_file.exists, what="the moto server", timeout=self._start_timeout)
                self._port = int(port_file.read_text(encoding="ascii"))
                self._process = process
                self._call("GET", "/")
            except BaseException:
                self._process = None
                process.stop()
                raise

    def stop(self) -> None:
        """End the server; does nothing the second time."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this server and gets in."""
        return {**dummy_environment(), "AWS_ENDPOINT_URL": self.endpoint, "AWS_ENDPOINT_URL_S3": self.endpoint}

    def boto3_client(self) -> Any:
        """Return a new boto3 S3 client of this server, path style, independent of the environment."""
        return make_boto3_client(self)

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

    def _call(self, method: str, path: str) -> tuple[int, bytes]:
        if self._process is None:
            raise ServerError("the moto server is not running")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECONDS)
        try:
            connection.request(method, path, headers={"Host": f"127.0.0.1:{self._port}", "Content-Length": "0"})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError as error:
            raise ServerError(f"the moto server does not answer: {error}\n{self._process.output()}") from error
        finally:
            connection.close()
