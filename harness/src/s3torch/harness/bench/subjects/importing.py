"""What an import costs: each run is a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from s3torch.harness.bench.subjects.task import Sink, Subject, Task

_PROGRAM = """
import json, os, sys, threading, time
{before}
sockets = {sockets}
start, cpu = time.perf_counter(), time.process_time()
import {module}
print(json.dumps(dict(
    seconds=time.perf_counter() - start,
    cpu=time.process_time() - cpu,
    threads=threading.active_count() - 1,
    sockets={sockets} - sockets,
)))
"""
_COUNT_SOCKETS = (
    "sum('socket' in os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd') "
    "if os.path.lexists('/proc/self/fd/' + fd)) if os.path.isdir('/proc/self/fd') else 0"
)


def module(task: Task) -> Subject:
    """Import the option ``module`` after those in the option ``before``; the import's own time is what counts.

    Raises:
        RuntimeError: In a run, if the import opens a socket or starts a thread.
    """
    before = "\n".join(f"import {name}" for name in task.options.get("before", []))
    program = _PROGRAM.format(before=before, module=task.options["module"], sockets=_COUNT_SOCKETS)

    def run(_: Sink) -> Any:
        printed = subprocess.run(
            [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, timeout=120
        ).stdout
        found = json.loads(printed)
        if found["threads"] or found["sockets"]:
            raise RuntimeError(f"the import left {found['threads']} threads and {found['sockets']} sockets")
        return found

    return Subject(run, parts=lambda _: [], own_time=lambda found: (found["seconds"], found["cpu"]))
