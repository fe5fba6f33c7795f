"""A child process of the demo: ``python -m s3torch.harness.demo.worker JOB``, events on standard output.

It holds no thread to watch its parent: it tells of every step, and a parent that is gone breaks that pipe.
"""

from __future__ import annotations

import sys

from s3torch.client import S3Exception
from s3torch.harness._events import EventWriter
from s3torch.harness.demo.events import Event, Failed, encode
from s3torch.harness.demo.settings import Job

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Do one job.

    Args:
        arguments: The job as JSON.

    Returns:
        The exit status.
    """
    emit = EventWriter[Event](encode)
    job = Job.from_json(arguments[0])
    try:
        if job.task == "write":
            from s3torch.harness.demo.writing import write_dataset

            write_dataset(job, emit)
        else:
            from s3torch.harness.demo.training import train

            train(job, emit)
    except S3Exception as error:
        emit(Failed(_in_one_line(error)))
        return 1
    return 0


def _in_one_line(error: S3Exception) -> str:
    """Return what an error says; from a DataLoader worker a whole traceback, with the error in its last line."""
    said = error.message if "Traceback" in error.message else str(error)
    return said.strip().splitlines()[-1].removeprefix("s3torch.client.errors.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
