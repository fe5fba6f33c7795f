"""The load process: ``python -m s3torch.harness.soak.worker JOB``, events on standard output.

Each round runs all activities, first those that can beside each other in fresh threads, then the others one by one;
then it comes to rest and is measured. What differs from round to round is then what has been left behind.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from s3torch.client import S3Exception
from s3torch.harness.soak.activities import (
    ALL,
    ALONE,
    IN_THREADS,
    Activity,
    drop_unfinished_uploads,
    keep_distributed_checkpoint,
)
from s3torch.harness.soak.events import Began, Broken, Done, Ended, Event, Rounded, encode
from s3torch.harness.soak.place import Place, WrongBytesError, typed_error
from s3torch.harness.soak.settings import Job, load_function
from s3torch.harness.soak.watching import settle, take_sample

__all__ = ["main"]

_PARENT_GONE = 3
_THREADS = 4


class _Teller:
    """Writes events from any thread."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __call__(self, event: Event) -> None:
        if os.getpid() != self._pid:
            return
        with self._lock:
            try:
                self._out.write(encode(event))
                self._out.flush()
            except OSError:  # nobody listens any more: no clean-up can matter, and none may hang
                os._exit(_PARENT_GONE)


def main(arguments: list[str]) -> int:
    """Do one job.

    Args:
        arguments: The job as JSON.

    Returns:
        The exit status.
    """
    if hasattr(signal, "SIGUSR1"):
        # How the parent asks a process that hangs where it does.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    tell = _Teller(_take_standard_output())
    job = Job.from_json(arguments[0])
    beside = _choose(IN_THREADS, job.only)
    alone = [*_choose(ALONE, job.only), *(load_function(name) for name in job.also)]
    if keep_distributed_checkpoint in alone:
        try:
            # Takes long when imported first, and is none of the load.
            importlib.import_module("s3torch.dcp")
        except ModuleNotFoundError:  # of an extra; the report does not list the activity then
            alone.remove(keep_distributed_checkpoint)
    place = Place.open(job.region, job.endpoint, job.bucket, job.workers)
    place.fill()
    tell(Began())
    started = time.monotonic()
    number = 0
    while number < job.rounds or time.monotonic() - started < job.seconds:
        number += 1
        chances = [random.Random(f"{job.seed}/{number}/{index}") for index in range(len(ALL) + len(job.also))]
        with ThreadPoolExecutor(_THREADS) as pool:
            for activity, chance in zip(beside, chances, strict=False):
                pool.submit(_do, activity, place, chance, tell)
        for activity, chance in zip(alone, chances[len(beside) :], strict=False):
            _do(activity, place, chance, tell)
        _clean_up(place)
        settle()
        tell(Rounded(number, take_sample(time.monotonic() - started)))
    place.close()
    tell(Ended(number))
    return 0


def _choose(activities: tuple[Activity, ...], only: tuple[str, ...]) -> list[Activity]:
    return [each for each in activities if not only or each.__name__ in only]


def _do(activity: Activity, place: Place, chance: random.Random, tell: _Teller) -> None:
    name = activity.__name__
    started = time.monotonic()
    try:
        size = activity(place, chance)
        tell(Done(name, size, time.monotonic() - started))
    except WrongBytesError as error:
        tell(Broken(name, f"wrong bytes: {error}"))
    except BaseException as error:
        found = typed_error(error)
        if found is not None:
            tell(
                Done(
                    name,
                    0,
                    time.monotonic() - started,
                    f"{type(found).__name__}: {found.message.strip().splitlines()[-1]}",
                )
            )
            return
        tell(Broken(name, "an error that is none of the client's:\n" + traceback.format_exc()))
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise


def _clean_up(place: Place) -> None:
    try:
        drop_unfinished_uploads(place)
    except S3Exception:  # the next round does it
        return


def _take_standard_output() -> TextIO:
    """Return standard output for events alone; what anything else prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
