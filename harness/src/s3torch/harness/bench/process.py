"""Drives a subject in its process: one task, then run after run, each with a deadline."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from s3torch.harness._child import ChildProcess
from s3torch.harness.bench.subjects.measure import Run, measure, resident_bytes
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.servers._address import kept_environment

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

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

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
        with contextlib.ExitStack() as stack:
            stack.enter_context(kept_environment())  # some subjects find their store by it alone
            self._subject = getattr(found, function)(task)
            self._kept = stack.pop_all()
        self.resident = resident_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the subject, and what it set in the environment; a process of its own would end with both."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del self._subject
            gc.collect()
        self._kept.close()

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        """Run it once, as in a process of its own."""
        return measure(self._subject, check=check, spend=spend)


class SubjectProcess(ChildProcess):
    """A subject in a process of its own, in a group of its own; a context manager that leaves none of it behind.

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
        super().__init__([python, "-m", "s3torch.harness.bench.subjects", *subject.split(":")], env, has_lifeline=True)
        try:
            self.resident: int = self._ask(task.to_json())["resident"]
            """Resident memory when set up, before the first run, in bytes."""
        except BaseException:
            self.close()
            raise

    def run(self, *, check: bool = False, spend: float = 0.0) -> Run:
        """Run it once.

        Args:
            check: Checksum what it delivers one by one, at the cost of the measured time.
            spend: Seconds of pure Python that the consumer spends on each object.
        """
        return Run(**self._ask(json.dumps({"check": check, "spend": spend})))

    def close(self) -> None:
        """Let the process end, or end it, and its group; does nothing the second time."""
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        finally:
            super().close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._next_line(self._timeout)
        except TimeoutError:  # which is an OSError
            self._end()
            raise SubjectError(f"{self._subject} did not answer within {self._timeout:g} s{self._printed()}") from None
        except OSError:
            answer = None
        if answer is None:
            raise SubjectError(f"{self._subject} failed{self._printed()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _printed(self) -> str:
        text = self.said(_OUTPUT_SHOWN)
        return f":\n{text}" if text else ""
