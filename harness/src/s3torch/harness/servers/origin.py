"""A fast S3-shaped origin for benchmarks: nginx, from the system's packages, over files on a memory file system.

It answers at the speed of ``sendfile``, so that a client is measured and not its server. What S3 knows and plain files
do not (credentials, metadata, versions) it does not check; ``nginx/s3.lua`` says which keys it cannot hold.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from s3torch.harness.servers._address import make_boto3_client, server_environment
from s3torch.harness.servers._content import write_content
from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers._serving import S3ProcessServer

_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_OPTIONAL_PARTS = ("proxy", "fastcgi", "uwsgi", "scgi")
_STARTS = 3
_REMEDY = (
    "The benchmark origin needs nginx with its Lua module from the system's packages: on Debian and Ubuntu "
    "`apt-get install nginx libnginx-mod-http-lua`."
)
_SERVER = Template(
    """\
server {
  listen 127.0.0.1:$port $options;
  set $$s3_latency_ms $latency;
  $extra
  include $run/locations.conf;
}
"""
)


class OriginUnavailableError(ServerError):
    """nginx or its Lua module is missing; the message names the packages."""


def find_nginx() -> tuple[str, str, str]:
    """Find nginx and the folder of its modules.

    Returns:
        The program, the folder, and what ``nginx -V`` prints.

    Raises:
        OriginUnavailableError: If either is missing.
    """
    # Distributions put it where the search path of an ordinary user may not lead.
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin")
    if program is None:
        raise OriginUnavailableError(f"nginx was not found. {_REMEDY}")
    build = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10, check=False).stderr
    folder = re.search(r"--modules-path=(\S+)", build)
    for module in _MODULES:
        if folder is None or not Path(folder[1], module).exists():
            raise OriginUnavailableError(f"nginx has no module {module}. {_REMEDY}")
    assert folder is not None
    return program, folder[1], build


class Origin(S3ProcessServer):
    """The origin; a context manager. One set of buckets behind three endpoints.

    Args:
        latency: Seconds before the first byte of each answer of ``latency_endpoint``.
        rate: Bytes per second at which each of its connections is capped.
        workers: nginx worker processes; by default one for each of at most two cores.
        start_timeout: Seconds until it must answer.

    Raises:
        OriginUnavailableError: On entering, where nginx is missing.
        ServerError: On entering, if it does not start; the message ends with what it printed.
    """

    _title = "the nginx origin"

    def __init__(
        self,
        *,
        latency: float = 0.030,
        rate: int = 90_000_000,
        workers: int | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        super().__init__(start_timeout=start_timeout)
        self._latency = latency
        self._rate = rate
        self._workers = workers or min(2, os.cpu_count() or 1)
        self._ports: list[int] = []

    @property
    def latency_endpoint(self) -> str:
        """Plain HTTP with a delayed first byte and a capped rate per connection, as S3 has them."""
        return f"http://127.0.0.1:{self._running_port(1)}"

    @property
    def tls_endpoint(self) -> str:
        """HTTPS, with a certificate that ``ca_bundle`` vouches for."""
        return f"https://127.0.0.1:{self._running_port(2)}"

    @property
    def ca_bundle(self) -> str:
        """The file that clients of ``tls_endpoint`` must trust, for instance by ``AWS_CA_BUNDLE``."""
        return str(self._running_directory() / "run" / "ca.pem")

    @property
    def root(self) -> Path:
        """The folder of buckets: object KEY of bucket BUCKET is the file ``root / BUCKET / KEY``."""
        return self._running_directory() / "data"

    def env(self, endpoint: str | None = None) -> dict[str, str]:
        """Return the variables by which any AWS client finds an endpoint, trusts it and gets in.

        Args:
            endpoint: One of the three; the plain one by default.
        """
        return server_environment(self, endpoint=endpoint, ca_bundle=self._trusted_at(endpoint))

    def boto3_client(self, endpoint: str | None = None) -> Any:
        """Return a new boto3 S3 client, path style, independent of the environment.

        Args:
            endpoint: One of the three; the plain one by default.
        """
        return make_boto3_client(self, endpoint=endpoint, ca_bundle=self._trusted_at(endpoint))

    def create_bucket(self, name: str) -> str:
        """Create a bucket.

        Args:
            name: Its name.

        Returns:
            The name.
        """
        (self.root / name).mkdir(exist_ok=True)
        return name

    def fill(self, bucket: str, key: str, size: int, *, seed: int = 0) -> None:
        """Store an object of reproducible content in which no two aligned MiB are equal, past the network.

        Args:
            bucket: An existing bucket.
            key: Its key.
            size: Its length in bytes.
            seed: Another one gives other content.
        """
        write_content(self.root / bucket / key, size, seed=seed)

    def _launch(self) -> None:
        program, modules, build = find_nginx()
        for tries_left in reversed(range(_STARTS)):
            self._directory = directory = Path(tempfile.mkdtemp(prefix="s3torch-origin-", dir=memory_folder()))
            try:
                self._configure(directory, modules, build)
                run = str(directory / "run")
                nginx = [program, "-p", run, "-e", "stderr", "-c", f"{run}/nginx.conf"]
                self._run([sys.executable, "-m", "s3torch.harness.servers._lifeline", str(directory), *nginx])
                self._wait_for("/")
                return
            except ServerError as error:
                # Another process may have taken a port between its choice and nginx's start.
                if not tries_left or "Address already in use" not in str(error):
                    raise
                self.stop()

    def _trusted_at(self, endpoint: str | None) -> str | None:
        return self.ca_bundle if endpoint is not None and endpoint.startswith("https") else None

    def _running_port(self, index: int) -> int:
        self._running()
        return self._ports[index]

    def _running_directory(self) -> Path:
        self._running()
        assert self._directory is not None
        return self._directory

    def _configure(self, directory: Path, modules: str, build: str) -> None:
        run, root = directory / "run", directory / "data"
        for folder in (run / "lua", root / ".temporary", root / ".uploads"):
            folder.mkdir(parents=True)
        for file in resources.files("s3torch.harness.servers").joinpath("nginx").iterdir():
            if file.name.endswith(".lua"):
                (run / "lua" / file.name).write_bytes(file.read_bytes())
        # Imported late: only this needs it, and tests on moto should not wait for it.
        from s3torch.harness.servers._certificates import make_certificates

        certificates = make_certificates(run)
        self._ports = _free_ports(3)
        self._port = self._ports[0]
        tls = (
            f"ssl_certificate {certificates.certificate}; ssl_certificate_key {certificates.key}; "
            "ssl_protocols TLSv1.2 TLSv1.3;"
        )
        kinds = [
            {"options": "reuseport", "latency": 0, "extra": ""},
            {"options": "reuseport", "latency": self._latency * 1000, "extra": f"limit_rate {self._rate};"},
            {"options": "reuseport ssl", "latency": 0, "extra": tls},
        ]
        servers = [_SERVER.substitute(kind, port=port, run=run) for kind, port in zip(kinds, self._ports, strict=True)]
        # The folders that nginx was built with belong to the system; an ordinary user cannot make them.
        temporary = [
            f"{part}_temp_path {run}/{part};"
            for part in _OPTIONAL_PARTS
            if f"--without-http_{part}_module" not in build
        ]
        values = {
            "load_modules": "\n".join(f"load_module {modules}/{name};" for name in _MODULES),
            # Started by root, the workers would otherwise be a user who cannot read the data.
            "user": "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else "",
            "workers": self._workers,
            "run": run,
            "lua": run / "lua",
            "root": root,
            "temp_paths": "\n".join(temporary),
            "servers": "\n".join(servers),
        }
        (run / "nginx.conf").write_text(_template("nginx.conf").substitute(values), encoding="utf-8")
        (run / "locations.conf").write_text(_template("locations.conf").template, encoding="utf-8")


def _template(name: str) -> Template:
    text = resources.files("s3torch.harness.servers").joinpath("nginx").joinpath(f"{name}.template").read_text("utf-8")
    return Template(text)


def memory_folder() -> str | None:
    """Return a folder of a file system in memory; None where there is none."""
    folder = Path("/dev/shm")  # noqa: S108 - only a fresh folder of its own is made in it
    return str(folder) if folder.is_dir() and os.access(folder, os.W_OK) else None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
