"""Ranks of a process group, each a process of its own that answers once."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["answers_of"]


def answers_of(processes: list[Any], answers: Any, seconds: float) -> list[Any]:
    """Start the processes; return what each rank has put into the queue, with its number, and see all of them end.

    Args:
        processes: One for each rank, in order.
        answers: The queue.
        seconds: How long all of them may take to answer.
    """
    try:
        for process in processes:
            process.start()
        found = dict(_collect(answers, processes, time.monotonic() + seconds))
        for process in processes:
            process.join(timeout=60)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.join(timeout=10)
    return [found[rank] for rank in range(len(processes))]


def _collect(answers: Any, processes: list[Any], deadline: float) -> Iterator[tuple[int, Any]]:
    """Give what each rank answers; fail once one of them has."""
    missing = len(processes)
    while missing:
        have_ended = not any(process.is_alive() for process in processes)
        try:
            yield answers.get(timeout=1)
            missing -= 1
        except queue.Empty:
            assert not any(process.exitcode for process in processes), "a rank has failed"
            assert not have_ended, "a rank's answer cannot be pickled"
            assert time.monotonic() < deadline, "a rank does not answer"
