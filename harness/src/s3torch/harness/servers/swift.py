"""OpenStack Swift with its S3 API: a second real S3, written by others, in a process of its own.

It checks what moto lets pass: signatures and credentials, the region they are for, and the checksums of uploads. It
comes from the package index into an environment of its own, and keeps its data in memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from s3torch.harness.servers._address import REGION
from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers._serving import S3ProcessServer
from s3torch.harness.servers.environment import EnvironmentSetupError, make_environment
from s3torch.harness.servers.origin import memory_folder

__all__ = ["SwiftServer", "SwiftUnavailableError"]

_REQUIREMENTS = ("swift>=2.35,<3",)


class SwiftUnavailableError(ServerError):
    """Swift cannot run here, or could not be installed; the message says what to do."""


class SwiftServer(S3ProcessServer):
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

    _title = "the Swift server"

    def __init__(self, *, start_timeout: float = 60.0) -> None:
        super().__init__(start_timeout=start_timeout)

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

    def _launch(self) -> None:
        python = self.install()
        directory = Path(tempfile.mkdtemp(prefix="s3torch-swift-", dir=_folder_with_attributes()))
        self._directory = directory
        script = Path(__file__).with_name("_swift_process.py")
        command = [python, "-I", str(script), str(directory), self.region, self.access_key, self.secret_key]
        self._run(command, port_file=directory / "port")
        self._wait_for("/healthcheck")


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
