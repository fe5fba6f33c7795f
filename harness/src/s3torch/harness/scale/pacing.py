"""A small server that answers as slowly as told: what the model is checked against, and what costs are measured on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from s3torch.harness.servers._address import make_boto3_client, server_environment
from s3torch.harness.servers._serving import S3ProcessServer

__all__ = ["PacingServer"]


class PacingServer(S3ProcessServer):
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

    _title = "the pacing server"

    def __init__(
        self, *, first_byte: float = 0.0, rate: float = 0.0, tls: bool = False, start_timeout: float = 30.0
    ) -> None:
        super().__init__(start_timeout=start_timeout)
        self._first_byte = first_byte
        self._rate = rate
        self._tls = tls

    @property
    def endpoint(self) -> str:
        """Its URL."""
        self._running()
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_bundle(self) -> str | None:
        """The file to trust; None without TLS."""
        return None if self._directory is None else str(self._directory / "ca.pem")

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this server and gets in."""
        return server_environment(self, ca_bundle=self.ca_bundle)

    def boto3_client(self) -> Any:
        """Return a new boto3 S3 client of this server, path style, independent of the environment."""
        return make_boto3_client(self, ca_bundle=self.ca_bundle)

    def _launch(self) -> None:
        files: list[str] = []
        if self._tls:
            from s3torch.harness.servers._certificates import make_certificates

            self._directory = Path(tempfile.mkdtemp(prefix="s3torch-pacing-"))
            made = make_certificates(self._directory)
            files = [str(made.certificate), str(made.key)]
        self._run_module("s3torch.harness.scale._pacing_process", str(self._first_byte), str(self._rate), *files)
