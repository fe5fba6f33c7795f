"""`S3Reader`: the base of all readers."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["S3Reader"]


class S3Reader(io.BufferedIOBase):
    """A read-only file over one object in S3.

    The base of `SequentialS3Reader`, `RangedS3Reader` and `DCPOptimizedS3Reader`. It is abstract, but calling it with
    ``(bucket, key, get_object_info, get_stream)`` gives the default, a `SequentialS3Reader`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> S3Reader:  # noqa: ARG004  # __init__ takes them; another class
        """Make the default reader where no class was chosen."""
        if cls is S3Reader:
            from s3torch.readers.sequential import SequentialS3Reader

            return super().__new__(SequentialS3Reader)
        if cls.__abstractmethods__:  # io's classes leave this check out
            raise TypeError(f"{cls.__name__} is abstract: it lacks {', '.join(sorted(cls.__abstractmethods__))}")
        return super().__new__(cls)

    @property
    @abstractmethod
    def bucket(self) -> str:
        """The object's bucket."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The object's key."""

    @abstractmethod
    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes, all that is left where it is None or negative; fewer only at the end."""

    @abstractmethod
    def readinto(self, buf: Buffer) -> int:
        """Fill ``buf`` and return how many bytes were written; fewer than it holds only at the end."""

    @abstractmethod
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move by ``offset`` bytes from ``whence`` and return the new position."""

    @abstractmethod
    def tell(self) -> int:
        """Return the position: the offset of the next byte."""

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """Return False."""
        self._check_open()
        return False

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed reader")
