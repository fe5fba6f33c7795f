"""OpenStack Swift in one process: the proxy with its S3 API, and the account, container and object servers behind it.

Run by the Python of Swift's own environment, which has nothing of this project, as ``python -I _swift_process.py
DIRECTORY REGION ACCESS_KEY SECRET_KEY``. It takes free ports of the loopback interface, keeps all its files in
``DIRECTORY``, writes the proxy's port to the file ``port`` there when it answers, serves until its standard input ends,
and removes the directory.

The servers are Swift's own, each at a socket of its own and each with its WSGI application, as ``swift-proxy-server``
and the others would run them. One process starts faster than four, and ends as one. What memcached would keep is kept
in the process.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NoReturn, TypeAlias

Application: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_STORAGE = ("account", "container", "object")
_DEVICE = "d1"
_CLIENT_SECONDS = 60.0
_REMOVE = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Cache:
    """Keeps what Swift's proxy would keep in memcached, with the methods of Swift's client for it.

    Values go through JSON, as they do there: tuples come back as lists.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, str]] = {}

    def set(self, key: str, value: Any, *, time: float = 0, **_options: Any) -> None:
        """Keep a value, for good or for some seconds."""
        self._kept[key] = (_now() + time if time else float("inf"), json.dumps(value))

    def get(self, key: str, **_options: Any) -> Any:
        """Return a value, or None."""
        until, text = self._kept.get(key, (0.0, ""))
        return json.loads(text) if until > _now() else None

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count up."""
        count = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, count, time=time)
        return count

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count down, not below zero."""
        return self.incr(key, -int(delta), time)

    def delete(self, key: str, _server_key: str | None = None) -> None:
        """Forget a value."""
        self._kept.pop(key, None)

    def set_multi(self, mapping: Mapping[str, Any], _server_key: str, *, time: float = 0, **_options: Any) -> None:
        """Keep several values."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Sequence[str], _server_key: str) -> list[Any]:
        """Return several values."""
        return [self.get(key) for key in keys]


def make_cache_filter(_global_options: Mapping[str, str], **_options: str) -> Callable[[Application], Application]:
    """Make the filter that gives every request the cache; named in the proxy's configuration."""
    cache = Cache()

    def wrap(application: Application) -> Application:
        def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return application(environ, start_response)

        return serve

    return wrap


def log_to_stderr(
    _options: Any, _name: Any, _console: Any, _route: Any, _form: Any, logger: logging.Logger, _adapter: Any
) -> None:
    """Take a logger from syslog to standard error; named in the configurations."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.StreamHandler(sys.__stderr__))


def main(directory: Path, region: str, access_key: str, secret_key: str) -> None:
    """Serve until standard input ends or SIGTERM arrives.

    Args:
        directory: An empty directory; removed at the end.
        region: What clients have to sign for.
        access_key: Account and user of Swift, as ``account:user``.
        secret_key: The user's password.
    """

    def vanish(*_: object) -> NoReturn:
        # The servers end at once, in the midst of whatever they write, so that the directory stays removed.
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _REMOVE, str(directory)])  # noqa: S606 - itself

    signal.signal(signal.SIGTERM, vanish)
    lifeline = _load_lifeline()
    lifeline.watch(vanish)
    # The configurations name functions of this file.
    sys.modules["s3torch_swift"] = sys.modules[__name__]

    # eventlet speaks of its own end, Swift of header names.
    warnings.simplefilter("ignore")
    import eventlet
    from swift.common import utils

    listeners = {kind: eventlet.listen(("127.0.0.1", 0), backlog=1024) for kind in (*_STORAGE, "proxy")}
    for listener in listeners.values():
        # A head and a body in two segments would otherwise wait for the client's delayed ACK, 40 ms each time.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    values = {"region": region, "user": access_key.replace(":", "_"), "secret_key": secret_key}
    _configure(directory, values)
    utils.monkey_patch()
    utils.set_swift_dir(str(directory))
    utils.disable_fallocate()
    for kind in _STORAGE:
        _make_ring(directory, kind, listeners[kind].getsockname()[1])

    def report() -> None:
        ready.append(True)
        if len(ready) == len(listeners):
            lifeline.announce(listeners["proxy"].getsockname()[1], directory / "port")

    ready: list[bool] = []
    pool = eventlet.GreenPile(len(listeners))
    for kind, listener in listeners.items():
        pool.spawn(_serve, directory / f"{kind}-server.conf", listener, report)
    # None ends by itself: whichever fails first raises here.
    try:
        next(pool)
    finally:
        traceback.print_exc()
        vanish()


def _serve(configuration: Path, listener: Any, report: Callable[[], None]) -> None:
    """Serve one application as ``swift.common.wsgi.run_server`` does, which would end all servers but its own."""
    from eventlet import wsgi
    from swift.common.constraints import MAX_REQUEST_LINE
    from swift.common.utils import NullLogger
    from swift.common.wsgi import SwiftHttpProtocol, loadapp

    application = loadapp(str(configuration))
    report()
    wsgi.server(
        listener,
        application,
        NullLogger(),
        protocol=SwiftHttpProtocol,
        socket_timeout=_CLIENT_SECONDS,
        # S3 clients look for ETag, not for Etag.
        capitalize_response_headers=False,
        url_length_limit=MAX_REQUEST_LINE,
    )


def _configure(directory: Path, values: Mapping[str, str]) -> None:
    (directory / "devices" / _DEVICE).mkdir(parents=True)
    templates = Path(__file__).with_name("openstack")
    for kind in ("proxy", *_STORAGE):
        name = "proxy-server" if kind == "proxy" else "storage-server"
        template = Template((templates / f"{name}.conf.template").read_text(encoding="utf-8"))
        text = template.substitute(values, directory=directory, kind=kind)
        (directory / f"{kind}-server.conf").write_text(text, encoding="utf-8")
    text = (templates / "swift.conf.template").read_text(encoding="utf-8")
    (directory / "swift.conf").write_text(text, encoding="utf-8")


def _make_ring(directory: Path, kind: str, port: int) -> None:
    """Say where objects of a kind are: all on the one device of the one server."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": _DEVICE}
    builder.add_dev({**place, "replication_ip": "127.0.0.1", "replication_port": port, "weight": 1, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(directory / f"{kind}.ring.gz"))


def _load_lifeline() -> Any:
    """Import the module beside this file, which is not on the path here."""
    path = Path(__file__).with_name("_lifeline.py")
    spec = importlib.util.spec_from_file_location("s3torch_lifeline", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _now() -> float:
    return time.monotonic()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:5])
