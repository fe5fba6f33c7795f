"""Drives a subject in its process: one task, then run after run, each with a deadline."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from s3torch.harness.bench.subjects.measure import Run, measure, resident_bytes
from s3torch.harness.bench.subjects.task import Task

_OUTPUT_SHOWN = 1500
_STOP_SECONDS = 5.0


class SubjectError(RuntimeError):
    """A subject failed or did not answer in time; the message ends with what it printed."""


@contextlib.contextmanager
def subject_path() -> Iterator[str]:
    """Lay out the subjects alone, for environments that have none of this project.

    Yields:
        A folder for ``PYTHONPATH``.
    """
    spec = importlib.util.find_spec("s3torch.harness.bench.subjects")
    assert spec is not None
    with tempfile.TemporaryDirectory(prefix="s3torch-bench-") as folder:
        target = Path(folder, "s3torch", "harness", "bench", "subjects")
        for source in spec.submodule_search_locations or ():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


class Launched(Protocol):
    """A subject that is set up and can be run; a context manager."""

    resident: int
    """Resident memory when set up, before the first run, in bytes."""

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        """Run it once.

        Args:
            check: Checksum what it delivers one by one, at the cost of the measured time.
            spend: Seconds of pure Python that the consumer spends on each object.
        """

    def __enter__(self) -> Launched: ...

    def __exit__(self, *_: object) -> None: ...


class SubjectHere:
    """A subject in this very process, for those who look at what it does and not at how fast it is.

    Args:
        python: Ignored, as all but the next two: this process is what it is.
        subject: ``module:function`` within the subjects.
        task: What it is set up with.
        env: Ignored.
        timeout: Ignored.
    """

    def __init__(self, python: str, subject: str, task: Task, *, env: Mapping[str, str], timeout: float) -> None:  # noqa: ARG002  # as SubjectProcess
        module, _, function = subject.partition(":")
        found = importlib.import_module(f"s3torch.harness.bench.subjects.{module}")
        self._subject = getattr(found, function)(task)
        self.resident = resident_bytes()

    def __enter__(self) -> SubjectHere:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the subject; in a process of its own it would end with that."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del self._subject
            gc.collect()

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        """Run it once, as in a process of its own."""
        return measure(self._subject, check=check, spend=spend)


class SubjectProcess:
    """A subject in a process of its own; a context manager.

    Args:
        python: The interpreter of its environment.
        subject: ``module:function`` within the subjects.
        task: What it is set up with.
        env: Its whole environment.
        timeout: Seconds for the set-up and for each run.

    Raises:
        SubjectError: If the set-up fails.
    """

    def __init__(self, python: str, subject: str, task: Task, *, env: Mapping[str, str], timeout: float) -> None:
        self._subject = subject
        self._timeout = timeout
        output, name = tempfile.mkstemp(prefix="s3torch-subject-", suffix=".log")
        self._output = Path(name)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [python, "-m", "s3torch.harness.bench.subjects", *subject.split(":")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(env),
                text=True,
                encoding="utf-8",
            )
        finally:
            os.close(output)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.resident: int = self._ask(task.to_json())["resident"]
            """Resident memory when set up, before the first run, in bytes."""
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SubjectProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        """Run it once.

        Args:
            check: Checksum what it delivers one by one, at the cost of the measured time.
            spend: Seconds of pure Python that the consumer spends on each object.
        """
        return Run(**self._ask(json.dumps({"check": check, "spend": spend})))

    def close(self) -> None:
        """End the process; does nothing the second time."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
        self._listener.join(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        self._output.unlink(missing_ok=True)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            self._process.kill()
            raise SubjectError(f"{self._subject} did not answer within {self._timeout:g} s{self._printed()}") from None
        except OSError:
            answer = ""
        if not answer:
            raise SubjectError(f"{self._subject} failed{self._printed()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _printed(self) -> str:
        text = self._output.read_text(errors="replace").strip()[-_OUTPUT_SHOWN:]
        return f":\n{text}" if text else ""
