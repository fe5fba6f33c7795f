"""A subject's process: ``python -m s3torch.harness.bench.subjects MODULE FUNCTION``.

Reads a task and then commands, one JSON line each, from standard input; answers each with one JSON line. The subject is
set up once, and each command ``{"check": ..., "spend": ...}`` is one run, so that the runs of several subjects can take
turns and share whatever the machine is doing at the time.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from s3torch.harness.bench.subjects.measure import measure, resident_bytes
from s3torch.harness.bench.subjects.task import Subject, Task


def serve(module: str, function: str) -> None:
    """Answer commands until standard input ends.

    Args:
        module: Module of this package.
        function: Its function, called with the task; returns the subject.
    """
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    make: Callable[[Task], Subject] = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    subject = make(Task.from_json(sys.stdin.readline()))
    answer({"resident": resident_bytes()})
    for line in sys.stdin:
        command = json.loads(line)
        run = measure(subject, check=command["check"], spend=command["spend"])
        answer(asdict(run))


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
