"""Work that goes on behind the caller's back, one piece after the other, in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from s3torch.client import S3Uri

__all__ = ["BackgroundQueue", "CancelledSaveError", "Job"]

_log = logging.getLogger(__name__)


class CancelledSaveError(RuntimeError):
    """A save was given up because the program is being interrupted; nothing has become visible."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work."""

    name: str
    """What it does, for the log."""
    place: S3Uri
    """The checkpoint that it changes."""
    run: Callable[[threading.Event], None]
    """Does it; looks at the event from time to time and gives up once it is set."""
    is_save: bool = False
    """Whether it makes a checkpoint. What does not (a removal, a copy) was decided in the belief that the save before
    it would succeed, and is left out when that has failed."""
    adds: bool = False
    """Whether there is a checkpoint at the place afterwards."""


class BackgroundQueue:
    """Does jobs in a thread of its own, which lives as long as there are any.

    The thread is not a daemon: a program that ends without waiting ends when the last job is done.

    Args:
        on_thread_end: Called in the thread when it ends.
    """

    def __init__(self, on_thread_end: Callable[[], None]) -> None:
        self._on_thread_end = on_thread_end
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()  # the first one is being done
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._has_failed = False
        self._cancel = threading.Event()

    def submit(self, job: Job) -> None:
        """Add a job at the end.

        Args:
            job: The job.
        """
        with self._changed:
            self._jobs.append(job)
            if self._thread is None:
                self._cancel.clear()
                self._thread = threading.Thread(target=self._work, name="s3torch-lightning-save")
                self._thread.start()

    def wait(self, is_ready: Callable[[list[Job]], bool]) -> None:
        """Wait until the jobs that are not done yet allow going on.

        Args:
            is_ready: Looks at them.

        Raises:
            KeyboardInterrupt: The wait was interrupted. All jobs are given up before it leaves here.
        """
        try:
            with self._changed:
                self._changed.wait_for(lambda: is_ready([*self._jobs]))
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Give up all jobs, and return once none touches anything any more."""
        self._cancel.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs)

    def last_change(self, place: S3Uri) -> Job | None:
        """Return the last job, of those that are not done yet, that changes a checkpoint."""
        with self._changed:
            return next((job for job in reversed(self._jobs) if job.place == place), None)

    def take_error(self) -> BaseException | None:
        """Return the first error since the last call, if any."""
        with self._changed:
            error, self._error = self._error, None
            return error

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    break
                job = self._jobs[0]
            self._do(job)
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()
        self._on_thread_end()

    def _do(self, job: Job) -> None:
        if self._cancel.is_set():
            _log.warning("interrupted: did not %s %s", job.name, job.place)
            return
        if self._has_failed and not job.is_save:
            _log.warning("did not %s %s, since the save before has failed", job.name, job.place)
            return
        try:
            job.run(self._cancel)
            self._has_failed = False
        except CancelledSaveError:
            self._has_failed = True
            _log.warning("interrupted: did not %s %s", job.name, job.place)
        except BaseException as error:  # noqa: BLE001  # raised by the next call of the one who asked for it
            self._has_failed = True
            _log.error("could not %s %s: %s", job.name, job.place, error)  # its trace comes with it there
            with self._changed:
                self._error = self._error or error
