"""What all servers share: their start and end, their process, and how clients get in."""

from __future__ import annotations

import abc
import contextlib
import http.client
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s3torch.harness.servers._address import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    dummy_environment,
    make_boto3_client,
    own_environment,
    server_environment,
)
from s3torch.harness.servers._process import ServerError, ServerProcess

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["ProcessServer", "S3ProcessServer", "Serving"]


class Serving(abc.ABC):
    """Something that is started and stopped; a context manager that does both."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it; prefer the ``with`` statement."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it; does nothing the second time."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ProcessServer(Serving):
    """A server in a process of its own; a context manager.

    Every exit ends the server: leaving the block, an exception, Ctrl-C, the end of the interpreter, even SIGKILL.

    Args:
        start_timeout: Seconds until it must answer.
    """

    _title: ClassVar[str]
    """Names it in errors."""

    def __init__(self, *, start_timeout: float) -> None:
        self._start_timeout = start_timeout
        self._process: ServerProcess | None = None
        self._port = 0
        self._directory: Path | None = None
        """Removed when the server has ended."""

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and wait until it answers; prefer the ``with`` statement."""
        if self._process is not None:
            return
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove its files; does nothing the second time."""
        process, self._process = self._process, None
        directory, self._directory = self._directory, None
        if process is not None:
            process.stop()
        if directory is not None:
            # The server does that itself unless it was killed.
            shutil.rmtree(directory, ignore_errors=True)

    @abc.abstractmethod
    def _launch(self) -> None:
        """Start the process, by one of the next two, and wait until it answers; `stop` is called if that fails."""

    def _run(self, command: Sequence[str], *, port_file: Path | None = None) -> None:
        """Start a program, and wait for the number of its port if it writes one."""
        self._process = process = ServerProcess(command, env={**own_environment(), **dummy_environment()})
        if port_file is not None:
            process.wait_until(port_file.exists, what=self._title, timeout=self._start_timeout)
            self._port = int(port_file.read_text(encoding="ascii"))

    def _run_module(self, module: str, *arguments: str) -> None:
        """Start a module of ours, which is given a file for the number of its port and the arguments."""
        with tempfile.TemporaryDirectory(prefix="s3torch-port-") as directory:
            port_file = Path(directory, "port")
            self._run([sys.executable, "-m", module, str(port_file), *arguments], port_file=port_file)

    def _wait_for(self, path: str) -> None:
        """Wait until the server answers a request for a path."""
        self._running().wait_until(lambda: self._answers(path), what=self._title, timeout=self._start_timeout)

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=max(1.0, self._start_timeout))
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise ServerError(f"{self._title} is not running; use it as a context manager or call start()")
        return self._process


class S3ProcessServer(ProcessServer):
    """A server in a process of its own that speaks S3, to clients with a dummy identity."""

    region = REGION
    """The region to give to clients."""
    access_key = ACCESS_KEY
    """A dummy access key id."""
    secret_key = SECRET_KEY
    """A dummy secret access key."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint if self._process else 'stopped'}>"

    @property
    def endpoint(self) -> str:
        """The server's URL, ``http://127.0.0.1:PORT``."""
        self._running()
        return f"http://127.0.0.1:{self._port}"

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this server and gets in."""
        return server_environment(self)

    def boto3_client(self) -> Any:
        """Return a new boto3 S3 client of this server, path style, independent of the environment."""
        return make_boto3_client(self)

    def create_bucket(self, name: str) -> str:
        """Create a bucket.

        Args:
            name: Its name, as S3's rules for names want it.

        Returns:
            The name.
        """
        with contextlib.closing(self.boto3_client()) as client:
            client.create_bucket(Bucket=name)
        return name
