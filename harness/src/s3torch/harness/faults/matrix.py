"""The matrix: which cells there are, and running them side by side."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3torch.harness._options import ENGINES
from s3torch.harness._signals import TERMINATED
from s3torch.harness.faults._forking import end_tree, end_watched, fork
from s3torch.harness.faults.cases import ALL_CASES, FaultCase
from s3torch.harness.faults.subjects import ALL_SUBJECTS, Subject
from s3torch.harness.faults.verdict import Cell, Outcome, Verdict
from s3torch.harness.servers._address import dummy_environment, only_environment

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

__all__ = ["Matrix", "Settings", "choose_cells"]

# A cache is the same before any engine: on the others it meets what their own answers can make of it.
_CACHED_ELSEWHERE = frozenset({"reset-some", "flip", "403-midway", "replace", "cache-replace"})
# It takes as long as a part may, for each of its attempts in turn; these read in every way that the engine knows.
_DRIPPED_ELSEWHERE = frozenset({"read", "sequential", "get-many", "tar"})
_GUARD_S = 120.0
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the matrix is run."""

    seed: int
    """Where randomness begins."""
    jobs: int = 4
    """Cells at a time: most of them wait."""
    limit: float = 90.0
    """Seconds after which a subject hangs."""


def choose_cells(cases: Sequence[FaultCase], subjects: Sequence[Subject], engines: Sequence[str]) -> list[Cell]:
    """Return the cells in which a fault, a subject and an engine fit together, the slowest first.

    Args:
        cases: The faults.
        subjects: The subjects.
        engines: The engines by name.
    """
    cells = [
        Cell(case.name, subject.name, engine)
        for case in cases
        for engine in engines
        for subject in subjects
        if _fits(case, subject, engine)
    ]
    slow = {case.name for case in cases if not case.mends or case.kills}
    return sorted(cells, key=lambda cell: cell.case not in slow)


def _fits(case: FaultCase, subject: Subject, engine: str) -> bool:
    if not (case.writes if subject.writes else case.reads):
        return False
    if case.consumer not in subject.consumers or (case.checksummed and not subject.checksummed):
        return False
    if (case.cached and not subject.has_cache) or (subject.only is not None and case.name not in subject.only):
        return False
    if subject.has_cache and engine == "boto3" and case.name not in _CACHED_ELSEWHERE:
        return False
    if case.name == "drip" and engine == "boto3" and subject.name not in _DRIPPED_ELSEWHERE:
        return False
    if engine == "memory":
        return case.fits_memory and subject.in_memory
    return not (case.kills and engine not in ENGINES)


class Matrix:
    """Runs cells, each in processes of its own; a context manager that holds the server and the proxy.

    Args:
        settings: How.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._job: Any = None

    def __enter__(self) -> Matrix:
        # Imported here: `--help` and mistakes need neither torch nor a server.
        import torch

        from s3torch.harness.conformance.arrangement import Boto3Arrangement
        from s3torch.harness.faults._cell import Job
        from s3torch.harness.faults.contents import objects_to_read
        from s3torch.harness.faults.proxy import ProxyHost
        from s3torch.harness.servers import MotoServer

        torch.set_num_threads(1)  # a process with threads of its own cannot be forked well
        with ExitStack() as stack:
            stack.enter_context(only_environment(dummy_environment()))  # what cells start with, too
            stack.enter_context(_sharing_descriptions())
            server = stack.enter_context(MotoServer())
            host = stack.enter_context(ProxyHost())
            bucket = server.create_bucket(f"faults-{uuid.uuid4().hex}")
            client = server.boto3_client()
            for key, data in objects_to_read().items():
                client.put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="CRC32")
            client.close()
            _warm_up(server, bucket)
            # What is here is looked at by no collection in the cells: each would copy the pages of all of it.
            gc.collect()
            gc.freeze()
            stack.callback(gc.unfreeze)
            arrangement = Boto3Arrangement(server.boto3_client())  # not used here: every cell opens its own connections
            self._job = Job(
                endpoint=server.endpoint,
                bucket=bucket,
                arrangement=arrangement,
                host=host,
                folder=stack.enter_context(tempfile.TemporaryDirectory(prefix="s3torch-faults-")),
                limit=self.settings.limit,
                seed=self.settings.seed,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, cells: Sequence[Cell], engines: dict[str, Any]) -> Iterator[Outcome]:
        """Run cells, and yield what becomes of each as it ends.

        Args:
            cells: Which.
            engines: The engines, as ``S3ClientConfig`` takes them, by the cells' names of them.
        """
        left = list(reversed(cells))
        running: dict[int, _Running] = {}
        with selectors.DefaultSelector() as selector, _noting_interrupts() as interrupted:
            try:
                while left or running:
                    if interrupted:
                        raise SystemExit(TERMINATED) if interrupted[0] == signal.SIGTERM else KeyboardInterrupt
                    while left and len(running) < self.settings.jobs:
                        started = self._start(left.pop(), engines)
                        running[started.pipe] = started
                        selector.register(started.pipe, selectors.EVENT_READ)
                    for key, _ in selector.select(1.0):
                        each = running[key.fd]
                        data = os.read(key.fd, 65536)
                        if data:
                            each.told += data
                            continue
                        selector.unregister(key.fd)
                        del running[key.fd]
                        yield each.finish()
                    for each in [each for each in running.values() if time.monotonic() > each.until]:
                        if each.is_asked:
                            selector.unregister(each.pipe)
                            del running[each.pipe]
                            yield each.finish()
                        else:
                            each.end()
            finally:
                for each in running.values():
                    each.end()
                for each in running.values():
                    each.finish()

    def _start(self, cell: Cell, engines: dict[str, Any]) -> _Running:
        from s3torch.harness.faults._cell import run_cell

        case = next(each for each in ALL_CASES if each.name == cell.case)
        subject = next(each for each in ALL_SUBJECTS if each.name == cell.subject)

        def end_cell(*_: object) -> None:
            end_watched()
            os._exit(1)

        def work() -> Outcome:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, end_cell)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return run_cell(self._job, cell, case, subject, engines[cell.engine])

        # Only what has a handler of its own may be asked to end: the one of this process would note it and go on.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid, pipe = fork(work)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return _Running(cell, pid, pipe, time.monotonic() + self.settings.limit * 2 + _GUARD_S)


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in place of exceptions, which Python drops if they come in what runs around a fork."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    noting = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: noted.append(number)) for number in noting]
    try:
        yield noted
    finally:
        for number, handler in zip(noting, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _sharing_descriptions() -> Iterator[None]:
    """Let every botocore session have the descriptions of services that the first has read: to read them costs most."""
    from botocore.loaders import JSONFileLoader, Loader

    files = JSONFileLoader()
    found: dict[str, Any] = {}

    class Shared:
        def exists(self, path: str) -> bool:
            return bool(files.exists(path))

        def load_file(self, path: str) -> Any:
            if path not in found:
                found[path] = files.load_file(path)
            return found[path]

    before, Loader.FILE_LOADER_CLASS = Loader.FILE_LOADER_CLASS, Shared
    try:
        yield
    finally:
        Loader.FILE_LOADER_CLASS = before


def _warm_up(server: MotoServer, bucket: str) -> None:
    """Import and load here what every cell would load for itself, and fill the store in memory."""
    from s3torch.client import S3Client
    from s3torch.client.memory import MemoryStore
    from s3torch.harness.conformance.arrangement import MemoryArrangement
    from s3torch.harness.faults._cell import MEMORY, make_config
    from s3torch.harness.faults.contents import SMALL, objects_to_read

    for engine in ("direct", "boto3"):
        config = make_config(None, engine)
        with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:
            client.read(bucket, SMALL[0])
    arrangement = MemoryArrangement(MemoryStore.named(MEMORY))
    MemoryStore.named(MEMORY).create_bucket(bucket)
    for name, data in objects_to_read().items():
        arrangement.put(bucket, name, data)


@dataclass(slots=True)
class _Running:
    cell: Cell
    pid: int
    pipe: int
    until: float
    told: bytes = b""
    is_asked: bool = False

    def end(self) -> None:
        """Ask it to end; its result will say so."""
        os.kill(self.pid, signal.SIGTERM)
        self.is_asked = True
        self.until = time.monotonic() + _END_S

    def finish(self) -> Outcome:
        """Return what became of it, once its pipe has ended or its time is up; what has not ended soon is killed."""
        os.close(self.pipe)
        end_tree(self.pid, _END_S)
        _, status = os.waitpid(self.pid, 0)
        try:
            told = json.loads(self.told)
        except ValueError:  # nothing, or not all of it
            code = os.waitstatus_to_exitcode(status)
            return Outcome(self.cell, Verdict.UNTYPED, 0.0, 0, f"the cell's own process ended with status {code}")
        return Outcome(self.cell, Verdict(told["verdict"]), told["seconds"], told["struck"], told["detail"])
