"""Requests that do not depend on one another, several at once: each takes some 30 ms, nearly all of it waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from s3torch.client import Engine

__all__ = ["do_at_once"]

T = TypeVar("T")
R = TypeVar("R")

_WIDTH = 16


def do_at_once(engine: Engine, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call a function that sends requests with each item, in several threads.

    Args:
        engine: What it sends them with.
        call: The function.
        items: What to call it with.

    Returns:
        What it returned, in the order of the items.

    Raises:
        BaseException: The first of the function's errors; calls that have not begun by then never do.
    """
    pending = deque(enumerate(items))
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            try:
                index, item = pending.popleft()
            except IndexError:
                return
            try:
                results[index] = call(item)
            except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
                errors.append(error)

    def help_out() -> None:
        try:
            work()
        finally:
            engine.release_thread()

    helpers = min(_WIDTH, len(pending)) - 1
    threads = [threading.Thread(target=help_out, name="s3torch-catalog", daemon=True) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in sorted(results)]
