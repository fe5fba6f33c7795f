"""Files as Windows has them, on a system that is none: what it lacks is gone, and what is open stays."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

_LACKING = ("pread", "preadv", "pwrite", "pwritev", "readv", "writev", "O_CLOEXEC")
_OPEN = Path("/proc/self/fd")


class SharingViolationError(PermissionError):
    """ERROR_SHARING_VIOLATION."""

    winerror = 32


@contextlib.contextmanager
def like_windows() -> Iterator[None]:
    """Let this process find files as it would on Windows."""
    with contextlib.ExitStack() as patches:
        for name in filter(lambda name: hasattr(os, name), _LACKING):
            patches.enter_context(mock.patch.object(os, name))
            delattr(os, name)
        for name, place in (("unlink", 0), ("remove", 0), ("rename", 1), ("replace", 1)):
            patches.enter_context(mock.patch.object(os, name, _refusing(getattr(os, name), place)))
        patches.enter_context(mock.patch.object(os, "rename", _never_onto(os.rename)))
        patches.enter_context(mock.patch.object(os, "utime", _of_paths(os.utime)))
        yield


def _refusing(change: Callable[..., Any], place: int) -> Callable[..., Any]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        if not options:
            for path in arguments[: place + 1]:
                wanted = Path(path).resolve()
                if any(_target(entry) == wanted for entry in _OPEN.iterdir()):
                    raise SharingViolationError(errno.EACCES, "the file is open", str(path))
        return change(*arguments, **options)

    return refuse


def _never_onto(rename: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(source: Any, target: Any, **options: Any) -> Any:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "there is a file of that name", str(target))
        return rename(source, target, **options)

    return refuse


def _of_paths(change: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, int):
            raise NotImplementedError("Windows sets the times of names only")
        return change(path, *arguments, **options)

    return refuse


def _target(entry: Path) -> Path | None:
    try:
        return entry.readlink()
    except OSError:  # closed meanwhile
        return None
