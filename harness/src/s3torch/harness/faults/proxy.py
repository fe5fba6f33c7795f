"""A proxy before any S3 server that lets requests go wrong by a plan; in a process of its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from s3torch.harness.faults.plan import OBJECTS, REQUESTS, FaultPlan
from s3torch.harness.servers._certificates import make_certificates
from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers._serving import ProcessServer

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["FaultProxy", "ProxyHost"]

_START_S = 60.0
_CALL_S = 30.0


class ProxyHost(ProcessServer):
    """The process in which proxies run; many may share one. A context manager.

    Raises:
        ServerError: On entering, if it does not start; the message ends with what it printed.
    """

    _title = "the fault proxy"

    def __init__(self) -> None:
        super().__init__(start_timeout=_START_S)

    def call(self, **command: Any) -> dict[str, int]:
        """Have one command carried out."""
        process = self._running()
        try:
            with socket.create_connection(("127.0.0.1", self._port), _CALL_S) as sock, sock.makefile("rwb") as file:
                file.write(json.dumps(command).encode() + b"\n")
                file.flush()
                line = file.readline()
        except OSError as error:
            raise ServerError(f"the fault proxy does not answer: {error}\n{process.output()}") from error
        if not line:
            raise ServerError(f"the fault proxy did not do {command['do']!r}:\n{process.output()}")
        found: dict[str, int] = json.loads(line)
        return found

    def _launch(self) -> None:
        self._run_module("s3torch.harness.faults._proxy_process")


class FaultProxy:
    """Stands between a client and a server, and lets requests go wrong; a context manager.

    Args:
        upstream: URL of the server, ``http://host:port``.
        plan: What goes wrong, and when.
        tls: An existing folder for certificates, to speak TLS to clients; None speaks plainly.
        host: The process it runs in; None starts one of its own.
    """

    def __init__(
        self, upstream: str, plan: FaultPlan, *, tls: Path | None = None, host: ProxyHost | None = None
    ) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError(f"upstream must be http://host:port, got {upstream!r}")
        self.plan = plan
        self.ca_bundle: Path | None = None
        """The certificate to trust, where it speaks TLS."""
        self._upstream = (parts.hostname, parts.port)
        self._tls = tls
        self._own_host = host is None
        self._host = host or ProxyHost()
        self._port = 0
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        files = None
        if self._tls is not None:
            made = make_certificates(self._tls)
            self.ca_bundle = made.ca_bundle
            files = [str(made.certificate), str(made.key)]
        self._host.start()
        try:
            opened = self._host.call(do="open", upstream=self._upstream, plan=self.plan.to_json(), tls=files)
        except BaseException:
            if self._own_host:
                self._host.stop()
            raise
        self._port = opened["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        port, self._port = self._port, 0
        try:
            self._counts = self._host.call(do="close", port=port)
        except ServerError:
            if error is None:
                raise
        finally:
            if self._own_host:
                self._host.stop()

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        if not self._port:
            raise ServerError("the fault proxy is not running; use it as a context manager")
        # By name under TLS: the certificate holds for that, too, and clients send it.
        return f"https://localhost:{self._port}" if self._tls is not None else f"http://127.0.0.1:{self._port}"

    def follow(self, plan: FaultPlan) -> None:
        """Go by another plan from the next request on; counts begin anew."""
        self.plan = plan
        self._host.call(do="follow", port=self._port, plan=plan.to_json())

    def injected(self) -> dict[str, int]:
        """Return how often each fault has taken effect, by name; also after the end."""
        return {name: count for name, count in self._now().items() if name not in (OBJECTS, REQUESTS)}

    def requests(self) -> int:
        """Return how many requests came; also after the end."""
        return self._now().get(REQUESTS, 0)

    def objects(self) -> int:
        """Return how many answers had bytes of an object; also after the end."""
        return self._now().get(OBJECTS, 0)

    def _now(self) -> dict[str, int]:
        return self._host.call(do="counts", port=self._port) if self._port else self._counts

    def __repr__(self) -> str:
        return f"<FaultProxy {self.endpoint if self._port else 'stopped'} of {self._upstream[0]}:{self._upstream[1]}>"
