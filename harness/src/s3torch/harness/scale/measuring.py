"""Measures what requests, bytes and connections cost this machine: the client's processor time, not the wall clock."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from s3torch.client import GetRequest, S3Client, S3ClientConfig
from s3torch.harness.bench.subjects.measure import cpu_seconds, resident_bytes
from s3torch.harness.scale.costs import Costs, PathCosts
from s3torch.harness.scale.model import OBJECT, PART
from s3torch.harness.scale.pacing import PacingServer
from s3torch.harness.servers._address import only_environment

__all__ = ["measure_costs"]

_TINY = 1000
_WINDOW = 32
_CONNECTIONS = 256
_OPENING_SECONDS = 0.1


def measure_costs(
    say: Callable[[str], None] = lambda _: None, *, large: int = 256 * 1024**2, objects: int = 2000, repeat: int = 3
) -> Costs:
    """Measure all costs; takes most of a minute.

    Args:
        say: Told what is measured next.
        large: Bytes of a large read and upload.
        objects: Small objects in a run.
        repeat: Runs of each kind after a warm-up; the least counts, as what other programs add is no cost.

    Returns:
        The costs.

    Raises:
        ServerError: The server that it measures on did not start.
        S3Exception: The client failed.
    """
    paths = []
    for tls in (False, True):
        name = "TLS" if tls else "plain HTTP"
        with PacingServer(tls=tls) as server, only_environment(server.env()):
            paths.append(_measure_path(server, name, say, large, objects, repeat, _measure_connection(tls)))
    return Costs(machine=_describe(), plain=paths[0], tls=paths[1])


def _measure_path(
    server: PacingServer,
    name: str,
    say: Callable[[str], None],
    large: int,
    objects: int,
    repeat: int,
    connection: int,
) -> PathCosts:
    config = S3ClientConfig(force_path_style=True)
    with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:

        def get(size: int) -> None:
            requests = (GetRequest("bucket", f"{number}-{size}") for number in range(objects))
            for _ in client.get_many(requests, window=_WINDOW):
                pass

        say(f"{name}: requests")
        request = _least_cpu(lambda: get(_TINY), repeat) / objects
        say(f"{name}: objects of {OBJECT // 1000} KB")
        small = _least_cpu(lambda: get(OBJECT), repeat) / objects
        say(f"{name}: large reads")
        read = _least_cpu(lambda: client.read("bucket", f"x-{large}"), repeat)
        say(f"{name}: large uploads")
        data = memoryview(bytearray(os.urandom(1024**2)) * (large // 1024**2))
        write = _least_cpu(lambda: client.put("bucket", "x", data), repeat)
    parts = large / PART * request
    return PathCosts(
        request=request,
        object_byte=max(0.0, small - request) / (OBJECT - _TINY),
        read_byte=max(0.0, read - parts) / large,
        write_byte=max(0.0, write - parts) / large,
        connection=connection,
    )


def _least_cpu(run: Callable[[], object], repeat: int) -> float:
    run()  # opens connections, and touches what is touched for the first time
    found = []
    for _ in range(repeat):
        gc.collect()
        before = cpu_seconds()
        run()
        found.append(cpu_seconds() - before)
    return min(found)


def _measure_connection(tls: bool) -> int:
    # In a process of its own: in one that has worked before, memory freed since would be counted against connections.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(_weigh_connection, tls).result()


def _weigh_connection(tls: bool) -> int:
    # Each answer takes a while, so that each request of the window opens a connection.
    with PacingServer(first_byte=_OPENING_SECONDS, tls=tls) as server, only_environment(server.env()):
        config = S3ClientConfig(force_path_style=True, window=_CONNECTIONS, window_bytes=1024**3)
        with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:

            def open_connections(count: int) -> int:
                for _ in client.get_many([GetRequest("bucket", "x-1")] * count):
                    pass
                gc.collect()
                return resident_bytes()

            before = open_connections(_WINDOW)
            return max(0, open_connections(_CONNECTIONS) - before) // (_CONNECTIONS - _WINDOW)


def _describe() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
