"""One cell of the matrix, in a process of its own that watches another one do the work."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from s3torch.client import S3ClientConfig, S3Exception
from s3torch.client.memory import MemoryStore
from s3torch.dcp import CheckpointError
from s3torch.harness._typed_errors import find_typed_error
from s3torch.harness.conformance.arrangement import Arrangement, MemoryArrangement
from s3torch.harness.faults._forking import Ended, run_for
from s3torch.harness.faults.cases import FaultCase
from s3torch.harness.faults.contents import MIB, objects_to_read, objects_to_replace
from s3torch.harness.faults.engine import FaultyEngines
from s3torch.harness.faults.killing import KillingTap
from s3torch.harness.faults.place import Controls, Place
from s3torch.harness.faults.proxy import FaultProxy, ProxyHost
from s3torch.harness.faults.subjects import Subject
from s3torch.harness.faults.verdict import Cell, Outcome, Report, Verdict, judge
from s3torch.harness.servers._address import REGION

__all__ = ["MEMORY", "Job", "is_typed", "run_cell"]

MEMORY = "s3torch-faults"
# A name that servers take for their own, whatever they make of others.
_NAME = "localhost"
_MOST_REQUESTS = 100
_LOOK_S = 60.0
# Twice the names of one look-up that fails: with the flag for numbers, and without.
_FLAKY_LOOK_UPS = 2


@dataclass(frozen=True)
class Job:
    """What all cells have in common.

    Args:
        endpoint: The server's own endpoint.
        bucket: The bucket.
        arrangement: A client of the server, none of ours; it has no connection yet.
        host: Where the proxies run.
        folder: For files of the cells; removed at the end.
        limit: Seconds after which a subject hangs.
        seed: Where randomness begins.
    """

    endpoint: str
    bucket: str
    arrangement: Arrangement
    host: ProxyHost
    folder: str
    limit: float
    seed: int


def run_cell(job: Job, cell: Cell, case: FaultCase, subject: Subject, engine: Any) -> Outcome:
    """Run a cell to its end and judge it; the environment has to be one in which clients get in.

    Args:
        job: What all cells have in common.
        cell: Which it is.
        case: Its fault.
        subject: Its subject.
        engine: As ``S3ClientConfig`` takes it.
    """
    warnings.simplefilter("ignore")
    if cell.engine == "memory":
        return _run_in_memory(job, cell, case, subject)
    prefix = f"{cell.case}/{cell.subject}/{zlib.crc32(cell.engine.encode())}/" if subject.writes or case.private else ""
    clean = Place(job.endpoint, REGION, job.bucket, prefix, make_config(None, "direct"), _fetcher(job))
    if case.kills:
        return _run_killed(job, cell, case, subject, clean, engine)
    _arrange(job, case, subject, prefix)
    config = make_config(case, engine)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=job.folder)))
        seed = zlib.crc32(f"{job.seed}/{cell.case}/{cell.subject}/{cell.engine}".encode())
        tls = folder if case.tls else None
        proxy = stack.enter_context(FaultProxy(job.endpoint, case.plan(seed), tls=tls, host=job.host))
        if proxy.ca_bundle is not None:
            config = replace(config, ca_bundle=str(proxy.ca_bundle))
        endpoint = proxy.endpoint
        if case.names != "known":
            endpoint = f"http://{_NAME}:{endpoint.rpartition(':')[2]}"
        controls = Controls(
            proxy, case.plan(seed), folder, partial(job.arrangement.put, job.bucket), case.cache_fault, seed
        )
        place = Place(
            endpoint, REGION, job.bucket, prefix, config, clean.fetch, case.consumer, may_be_replaced=case.private,
            controls=controls,
        )  # fmt: skip

        def attempt() -> Report:
            look_ups = _break_names(case.names)
            if case.renews:
                _renew_credentials(folder)
            report = _attempt(subject, place)
            report.injected = {"dns": look_ups[0], **place.injected}
            return report

        ended = run_for(job.limit, attempt)
        injected = proxy.injected()
    report = None if ended.value is None else Report(**ended.value)
    struck = sum(injected.values()) + (sum(report.injected.values()) if report is not None else 0)
    outcome = _judge(cell, case, report, ended, struck)
    if subject.see is not None and outcome.verdict is not Verdict.HANG:
        outcome = _look(outcome, subject, clean, is_done=report is not None and report.is_done)
    return outcome


def make_config(case: FaultCase | None, engine: Any) -> S3ClientConfig:
    """Return options with short deadlines."""
    return S3ClientConfig(
        engine=engine,
        force_path_style=True,
        part_size=5 * MIB,
        window=4,
        read_ahead=2,
        max_attempts=10 if case is None else case.max_attempts,
        connect_timeout=3,
        read_timeout=30 if case is None else 1.5,
        operation_timeout=60 if case is None else 6,
    )


def is_typed(error: BaseException) -> bool:
    """Whether an error says what has happened: one of our own, or torch's about such ones on each rank."""
    return find_typed_error(error, S3Exception, CheckpointError) is not None


def _attempt(subject: Subject, place: Place) -> Report:
    report = Report()
    started = time.monotonic()
    try:
        subject.run(place)
        report.is_done = True
    except BaseException as error:  # noqa: BLE001  # the error is what this is about
        report.is_typed = is_typed(error)
        lines = traceback.format_exception(error) if not report.is_typed else []
        report.error = f"{type(error).__name__}: {error}" + "".join(f"\n{line}" for line in lines[-6:])
    report.seconds = time.monotonic() - started
    report.wrong = place.wrong
    return report


def _judge(cell: Cell, case: FaultCase, report: Report | None, ended: Ended, struck: int) -> Outcome:
    if ended.is_late:
        return Outcome(cell, Verdict.HANG, ended.seconds, struck, ended.stacks)
    verdict = judge(
        report,
        struck=struck,
        is_certain=case.is_certain,
        must_mend=case.must_mend(cell.engine),
        least_s=case.must_wait(cell.engine),
    )
    if report is None:
        return Outcome(cell, verdict, ended.seconds, struck, f"the process ended with status {ended.status}")
    return Outcome(cell, verdict, report.seconds, struck, "; ".join(report.wrong) or report.error)


def _look(outcome: Outcome, subject: Subject, clean: Place, *, is_done: bool) -> Outcome:
    """See what a subject that writes has left: what it said to be written, or one of both, whole."""
    ended = run_for(_LOOK_S, lambda: _see(subject, clean))
    seen = ended.value or f"nobody could look at what is there: status {ended.status} {ended.stacks}"
    complaint = _complaint(seen, is_done=is_done)
    if complaint is None:
        return outcome
    return replace(outcome, verdict=Verdict.WRONG, detail=f"{complaint}; {outcome.detail}")


def _complaint(seen: str, *, is_done: bool) -> str | None:
    """Say what is wrong with what is there: it has to be new, or old where nobody said that the new one is written."""
    if seen == "new" or (seen == "old" and not is_done):
        return None
    return "the old object is there, though the new one was said to be written" if seen == "old" else seen


def _see(subject: Subject, clean: Place) -> str:
    assert subject.see is not None
    try:
        return subject.see(clean)
    except Exception as error:  # noqa: BLE001  # whatever it is, what is there cannot be read
        return f"what is there cannot be read: {type(error).__name__}: {error}"


def _run_killed(job: Job, cell: Cell, case: FaultCase, subject: Subject, clean: Place, engine: Any) -> Outcome:
    """Kill the subject after each of its requests, until it gets through."""
    started = time.monotonic()
    for after in range(_MOST_REQUESTS):
        _arrange(job, case, subject, clean.prefix)  # the last turn may have written it, and only then been killed
        place = replace(clean, config=make_config(None, KillingTap(engine, after)))
        ended = run_for(job.limit, partial(_attempt, subject, place))
        if ended.is_late:
            return Outcome(cell, Verdict.HANG, ended.seconds, after, ended.stacks)
        # One that has told its result and takes its time to end is killed, too, but not by the fault.
        was_killed = ended.value is None and ended.status == -signal.SIGKILL
        report = Report(**ended.value) if ended.value else None
        if not was_killed and (report is None or not report.is_done):
            detail = report.error if report is not None else f"status {ended.status}"
            return Outcome(cell, Verdict.UNTYPED, ended.seconds, after, f"after {after} requests: {detail}")
        outcome = Outcome(cell, Verdict.RIGHT, time.monotonic() - started, after)
        outcome = _look(outcome, subject, clean, is_done=not was_killed)
        if not was_killed or not outcome.passes:
            return outcome
    return Outcome(cell, Verdict.HANG, time.monotonic() - started, _MOST_REQUESTS, "there is no end of its requests")


def _run_in_memory(job: Job, cell: Cell, case: FaultCase, subject: Subject) -> Outcome:
    """Everything in one process: the store is in it."""
    seed = zlib.crc32(f"{job.seed}/{cell.case}/{cell.subject}".encode())

    def attempt() -> Report:
        # The process's own copy of the one that was filled before it was forked.
        arrangement, bucket = MemoryArrangement(MemoryStore.named(MEMORY)), job.bucket
        if subject.writes:
            for name, data in objects_to_replace(subject.name).items():
                arrangement.put(bucket, name, data)
        engines = FaultyEngines("memory", case.plan(seed))
        fetch: Callable[[str], bytes] = lambda key: arrangement.get(bucket, key) or b""  # noqa: E731  # one expression
        place = Place(MEMORY, REGION, bucket, "", make_config(case, engines), fetch, case.consumer, case.private)
        report = _attempt(subject, place)
        if subject.writes:
            seen = _see(subject, replace(place, config=make_config(None, "memory")))
            complaint = _complaint(seen, is_done=report.is_done)
            report.wrong += [] if complaint is None else [complaint]
        report.injected = engines.injected()
        return report

    ended = run_for(job.limit, attempt)
    report = None if ended.value is None else Report(**ended.value)
    case = replace(case, least_s=0.0)  # its errors are those that are left when all waiting is over
    return _judge(cell, case, report, ended, 0 if report is None else sum(report.injected.values()))


def _arrange(job: Job, case: FaultCase, subject: Subject, prefix: str) -> None:
    objects = objects_to_replace(subject.name) if subject.writes else objects_to_read() if case.private else {}
    for name, data in objects.items():
        job.arrangement.put(job.bucket, prefix + name, data)


def _fetcher(job: Job) -> Callable[[str], bytes]:
    return lambda key: job.arrangement.get(job.bucket, key) or b""


def _renew_credentials(folder: Path) -> None:
    """Have credentials come from a program that makes others each time."""
    program = folder / "credentials.sh"
    count = folder / "count"
    count.write_text("")
    program.write_text(
        "#!/bin/sh\n"
        f"echo x >> '{count}'\n"
        f"n=$(wc -l < '{count}' | tr -d ' ')\n"
        'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"testing$n\\", \\"SecretAccessKey\\": \\"testing\\"}"\n'
    )
    program.chmod(stat.S_IRWXU)
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    os.environ["AWS_CONFIG_FILE"] = str(config)


def _break_names(names: str) -> list[int]:
    """Let look-ups of the endpoint's name fail; return a count of those that did."""
    failed = [0]
    if names == "known":
        return failed
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != _NAME:
            return look_up(host, *arguments, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        if names == "unknown" or failed[0] < _FLAKY_LOOK_UPS:
            failed[0] += 1
            number = socket.EAI_NONAME if names == "unknown" else socket.EAI_AGAIN
            raise socket.gaierror(number, "failed on purpose")
        return look_up("127.0.0.1", *arguments, **options)

    socket.getaddrinfo = getaddrinfo
    return failed
