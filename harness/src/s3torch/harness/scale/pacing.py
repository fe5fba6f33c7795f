"""A small server that answers as slowly as told: what the model is checked against, and what costs are measured on."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from s3torch.harness.servers._address import ACCESS_KEY, REGION, SECRET_KEY, dummy_environment, foreign_variables
from s3torch.harness.servers._process import ServerError, ServerProcess

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["PacingServer"]


class PacingServer:
    """A server of zeros in a process of its own; a context manager.

    An object exists if its key ends in a hyphen and its size, such as ``any-110000``. Uploads are read and dropped.

    Args:
        first_byte: Seconds before the first byte of each answer.
        rate: Bytes a second at which each connection is capped; 0 for no cap.
        tls: Whether it speaks HTTPS; ``ca_bundle`` is then the file to trust.
        start_timeout: Seconds until it must listen.

    Raises:
        ServerError: On entering, if it does not start.
    """

    region = REGION
    """The region to give to clients."""
    access_key = ACCESS_KEY
    """A dummy access key id; any is accepted."""
    secret_key = SECRET_KEY
    """A dummy secret access key."""

    def __init__(
        self, *, first_byte: float = 0.0, rate: float = 0.0, tls: bool = False, start_timeout: float = 30.0
    ) -> None:
        self._first_byte = first_byte
        self._rate = rate
        self._tls = tls
        self._start_timeout = start_timeout
        self._process: ServerProcess | None = None
        self._folder: Path | None = None
        self._port = 0

    def __enter__(self) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="s3torch-pacing-"))
        process = None
        try:
            port_file = folder / "port"
            command = [sys.executable, "-m", "s3torch.harness.scale._pacing_process", str(port_file)]
            command += [str(self._first_byte), str(self._rate)]
            if self._tls:
                from s3torch.harness.servers._certificates import make_certificates

                files = make_certificates(folder)
                command += [str(files.certificate), str(files.key)]
            foreign = foreign_variables(list(os.environ))
            process = ServerProcess(command, env={k: v for k, v in os.environ.items() if k not in foreign})
            process.wait_until(port_file.exists, what="the pacing server", timeout=self._start_timeout)
            self._port = int(port_file.read_text(encoding="ascii"))
        except BaseException:
            if process is not None:
                process.stop()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._process, self._folder = process, folder
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        if self._process is None:
            raise ServerError("the pacing server is not running; use it as a context manager")
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_bundle(self) -> str | None:
        """The file to trust; None without TLS."""
        return str(self._folder / "ca.pem") if self._tls and self._folder is not None else None

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this server and gets in."""
        found = {**dummy_environment(), "AWS_ENDPOINT_URL": self.endpoint, "AWS_ENDPOINT_URL_S3": self.endpoint}
        if self.ca_bundle:
            found["AWS_CA_BUNDLE"] = self.ca_bundle
        return found
