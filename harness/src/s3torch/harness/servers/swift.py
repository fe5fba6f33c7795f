"""OpenStack Swift with its S3 API: a second real S3, written by others, in a process of its own.

It checks what moto lets pass: signatures and credentials, the region they are for, and the checksums of uploads. It
comes from the package index into an environment of its own, and keeps its data in memory.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3torch.harness.servers._address import REGION, dummy_environment, foreign_variables, make_boto3_client
from s3torch.harness.servers._process import ServerError, ServerProcess
from s3torch.harness.servers.environment import EnvironmentSetupError, make_environment
from s3torch.harness.servers.origin import memory_folder

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["SwiftServer", "SwiftUnavailableError"]

_REQUIREMENTS = ("swift>=2.35,<3",)
_CALL_SECONDS = 30.0


class SwiftUnavailableError(ServerError):
    """Swift cannot run here, or could not be installed; the message says what to do."""


class SwiftServer:
    """A Swift server in a process of its own; a context manager. Several can run side by side.

    Every exit ends the server and removes its data: leaving the block, an exception, Ctrl-C, the end of the
    interpreter, even SIGKILL. The first start on a machine installs Swift, which takes a minute and a package index.

    Args:
        start_timeout: Seconds until an installed server must answer.

    Raises:
        SwiftUnavailableError: On entering, where it cannot run or be installed.
        ServerError: On entering, if it does not start; the message ends with what it printed.
    """

    region = REGION
    """The only region that requests may be signed for."""
    access_key = "test:tester"
    """The access key id: account and user of Swift."""
    secret_key = "testing"
    """The only secret access key that is accepted."""

    def __init__(self, *, start_timeout: float = 60.0) -> None:
        self._start_timeout = start_timeout
        self._process: ServerProcess | None = None
        self._directory: Path | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<SwiftServer {self.endpoint if self._process else 'stopped'}>"

    @staticmethod
    def install() -> str:
        """Install Swift where it is missing, and return the Python that has it.

        The environment is kept in the user's cache, or in the folder that ``S3TORCH_HARNESS_CACHE`` names.

        Raises:
            SwiftUnavailableError: It cannot be installed, or would not run.
        """
        if sys.platform != "linux":
            raise SwiftUnavailableError(
                f"OpenStack Swift runs on Linux only, and this is {sys.platform}: use moto, or a server of your own."
            )
        try:
            return make_environment("swift", _REQUIREMENTS)
        except EnvironmentSetupError as error:
            raise SwiftUnavailableError(
                "OpenStack Swift could not be installed. It comes from the Python package index: check that pip "
                f"reaches one, or use moto.\n{error}"
            ) from error

    @property
    def endpoint(self) -> str:
        """The server's URL, ``http://127.0.0.1:PORT``."""
        if self._process is None:
            raise ServerError("the Swift server is not running; use it as a context manager or call start()")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._process is None:
            raise ServerError("the Swift server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; prefer the ``with`` statement."""
        if self._process is not None:
            return
        python = self.install()
        directory = Path(tempfile.mkdtemp(prefix="s3torch-swift-", dir=_folder_with_attributes()))
        script = Path(__file__).with_name("_swift_process.py")
        command = [python, "-I", str(script), str(directory), self.region, self.access_key, self.secret_key]
        foreign = foreign_variables(list(os.environ))
        try:
            env = {name: value for name, value in os.environ.items() if name not in foreign}
            process = ServerProcess(command, env=env)
            try:
                port_file = directory / "port"
                process.wait_until(port_file.exists, what="the Swift server", timeout=self._start_timeout)
                self._port = int(port_file.read_text(encoding="ascii"))
                process.wait_until(self._answers, what="the Swift server", timeout=self._start_timeout)
            except BaseException:
                process.stop()
                raise
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._process, self._directory = process, directory

    def stop(self) -> None:
        """End the server and remove its data; does nothing the second time."""
        process, self._process = self._process, None
        directory, self._directory = self._directory, None
        if process is not None:
            process.stop()
        if directory is not None:
            # The server does that itself unless it was killed.
            shutil.rmtree(directory, ignore_errors=True)

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this server and gets in."""
        return {
            **dummy_environment(),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

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

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECONDS)
        try:
            connection.request("GET", "/healthcheck")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _folder_with_attributes() -> str:
    """Return a folder for temporary files, in memory if possible, whose files can have attributes.

    Swift keeps an object's metadata in extended attributes; a file system in memory has them since Linux 6.6.
    """
    folders = [folder for folder in (memory_folder(), tempfile.gettempdir()) if folder is not None]
    for folder in folders:
        with tempfile.NamedTemporaryFile(prefix="s3torch-swift-", dir=folder) as file, contextlib.suppress(OSError):
            if sys.platform == "linux":
                os.setxattr(file.name, "user.swift.metadata", b"x" * 1000)
                return folder
    raise SwiftUnavailableError(
        f"OpenStack Swift needs a folder for temporary files with extended attributes, and {' and '.join(folders)} "
        "have none: let TMPDIR name one on a file system such as ext4 or xfs, or use moto."
    )
