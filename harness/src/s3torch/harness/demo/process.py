"""The parent's side of a child process: its events, a deadline for each, and its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from s3torch.harness._child import ChildProcess
from s3torch.harness.demo.events import Event, Failed, decode
from s3torch.harness.demo.settings import Job

__all__ = ["DemoError", "WorkerProcess"]

# Generous: a first import of torch from a cold disk takes most of a minute.
_SILENCE_SECONDS = 180.0
_END_SECONDS = 10.0
_SHOWN = 2000


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


class WorkerProcess(ChildProcess):
    """A child that does one job; a context manager that leaves no process behind.

    Args:
        job: What it does.
        env: Its environment.
    """

    def __init__(self, job: Job, env: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-m", "s3torch.harness.demo.worker", job.to_json()], env)

    def events(self) -> Iterator[Event]:
        """Yield what the child tells, until it ends.

        Raises:
            DemoError: It failed, was silent for too long, or did not end after its last word.
        """
        while (line := self._heard()) is not None:
            event = decode(line)
            if isinstance(event, Failed):
                raise DemoError(event.message)
            yield event
        try:
            status = self._status(_END_SECONDS)
        except TimeoutError:
            raise DemoError(f"the child process has said all and does not end:\n{self._last_words()}") from None
        if status:
            raise DemoError(f"the child process ended with status {status}:\n{self._last_words()}")

    def kill(self) -> str:
        """End the child at once, as a crash or a lost machine would.

        Returns:
            What was done to it, for the reader.
        """
        self._end()
        return "TerminateProcess" if sys.platform == "win32" else "SIGKILL"

    def _heard(self) -> str | None:
        try:
            return self._next_line(_SILENCE_SECONDS)
        except TimeoutError:
            raise DemoError(f"the child process was silent for {_SILENCE_SECONDS:g} s:\n{self._last_words()}") from None

    def _last_words(self) -> str:
        return self.said(_SHOWN) or "(it said nothing)"
