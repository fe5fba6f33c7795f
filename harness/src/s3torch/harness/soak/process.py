"""The parent's side of the load process: its events, a deadline for each, and its stacks if it hangs."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping

from s3torch.harness._child import ChildProcess
from s3torch.harness.soak.events import Event, decode
from s3torch.harness.soak.settings import Job

__all__ = ["HangError", "LoadError", "LoadProcess"]

_TICK_SECONDS = 0.2
# A first import of torch from a cold disk takes most of a minute.
_START_SECONDS = 180.0
_END_SECONDS = 10.0
_STACK_SECONDS = 1.0
_SHOWN = 8000


class LoadError(RuntimeError):
    """The load process ended before its time; the message ends with what it printed."""


class HangError(LoadError):
    """The load process was silent for too long; the message ends with the stacks of its threads."""


class LoadProcess(ChildProcess):
    """The load in a process of its own, in a group of its own; a context manager that leaves none of it behind.

    Args:
        job: What it does.
        env: Its environment.
        silence: Seconds without an event that are a hang.
    """

    def __init__(self, job: Job, env: Mapping[str, str], silence: float) -> None:
        super().__init__([sys.executable, "-m", "s3torch.harness.soak.worker", job.to_json()], env)
        self._silence = silence

    def events(self) -> Iterator[Event | None]:
        """Yield what it tells until it ends, and None now and then while it tells nothing.

        Raises:
            HangError: It was silent for too long, or did not end after its last word.
            LoadError: It ended with an error.
        """
        heard, patience = time.monotonic(), max(self._silence, _START_SECONDS)
        while True:
            try:
                line = self._next_line(_TICK_SECONDS)
            except TimeoutError:
                if time.monotonic() - heard > patience:
                    raise HangError(f"nothing for {patience:g} s\n{self._stacks()}") from None
                yield None
                continue
            if line is None:
                break
            heard, patience = time.monotonic(), self._silence
            yield decode(line)
        try:
            status = self._status(_END_SECONDS)
        except TimeoutError:
            raise HangError(f"the load has run, and its process does not end\n{self._stacks()}") from None
        if status:
            raise LoadError(f"the load process ended with status {status}:\n{self._last_words()}")

    def _stacks(self) -> str:
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)
            time.sleep(_STACK_SECONDS)
        return self._last_words()

    def _last_words(self) -> str:
        return self.said(_SHOWN) or "(it said nothing)"
