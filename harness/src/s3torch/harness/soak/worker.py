"""The load process: ``python -m s3torch.harness.soak.worker JOB``, events on standard output.

Each round runs all activities, first those that can beside each other in fresh threads, then the others one by one;
then it comes to rest and is measured. What differs from round to round is then what has been left behind.
"""

from __future__ import annotations

import faulthandler
import importlib
import random
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from s3torch.client import S3Exception
from s3torch.harness._events import EventWriter
from s3torch.harness._options import load_name
from s3torch.harness._typed_errors import find_typed_error
from s3torch.harness.soak.activities import (
    ALL,
    ALONE,
    IN_THREADS,
    Activity,
    drop_unfinished_uploads,
    keep_distributed_checkpoint,
)
from s3torch.harness.soak.events import Began, Broken, Done, Ended, Event, Rounded, encode
from s3torch.harness.soak.place import Place, WrongBytesError
from s3torch.harness.soak.settings import Job
from s3torch.harness.soak.watching import settle, take_sample

__all__ = ["main"]

_THREADS = 4


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
    tell = EventWriter[Event](encode)
    job = Job.from_json(arguments[0])
    beside = _choose(IN_THREADS, job.only)
    alone = [*_choose(ALONE, job.only), *(load_name("--also", name) for name in job.also)]
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


def _do(activity: Activity, place: Place, chance: random.Random, tell: EventWriter[Event]) -> None:
    name = activity.__name__
    started = time.monotonic()
    try:
        size = activity(place, chance)
        tell(Done(name, size, time.monotonic() - started))
    except WrongBytesError as error:
        tell(Broken(name, f"wrong bytes: {error}"))
    except BaseException as error:
        found = find_typed_error(error, S3Exception)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
