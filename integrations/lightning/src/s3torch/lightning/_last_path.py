"""How Lightning learns where the last checkpoint is.

For ``ckpt_path="last"`` Lightning asks each ``ModelCheckpoint`` for candidates, and then fsspec for the file system of
each one, to compare their times. For ``s3://`` fsspec would want s3fs. So a candidate here names a file system of its
own while it is asked, which knows nothing but the time, and is a plain ``s3://`` path afterwards.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import fsspec  # type: ignore[import-untyped]  # has no types
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]  # has no types

__all__ = ["LastPath"]

_PROTOCOL = "s3torch-last"


class LastPath(str):
    """The URI of a checkpoint, and when that came to exist.

    Args:
        uri: ``s3://bucket/key``.
        committed: Seconds since 1970.
    """

    __slots__ = ("_is_asked", "committed")

    committed: int
    _is_asked: bool

    def __new__(cls, uri: str, committed: int) -> LastPath:
        path = super().__new__(cls, uri)
        path.committed = committed
        path._is_asked = False
        return path

    def tell_time(self) -> dt.datetime:
        """Return the time, and be an ordinary path from now on."""
        self._is_asked = True
        return dt.datetime.fromtimestamp(self.committed, tz=dt.timezone.utc)

    def __str__(self) -> str:
        return super().__str__() if self._is_asked else f"{_PROTOCOL}://{super().__str__()}"

    def __format__(self, spec: str) -> str:
        return format(super().__str__(), spec)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (super().__str__(),)


class _LastFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Knows the times of `LastPath`."""

    protocol = _PROTOCOL

    def exists(self, path: object, **kwargs: Any) -> bool:  # noqa: ARG002  # fsspec's
        """Tell whether it is one."""
        return isinstance(path, LastPath)

    def modified(self, path: LastPath) -> dt.datetime:
        """Return its time."""
        return path.tell_time()


fsspec.register_implementation(_PROTOCOL, _LastFileSystem, clobber=True)
