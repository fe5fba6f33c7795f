"""What all readers share: their names, the check of arguments, their end, and errors that survive `torch.load`."""

from __future__ import annotations

import io
from abc import abstractmethod
from operator import index
from typing import TYPE_CHECKING, Any

from s3torch.readers._torch_calls import is_from_archive_reader
from s3torch.readers.protocol import GetObjectInfoCallable
from s3torch.readers.reader import S3Reader

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ObjectReader", "as_bytes_view", "as_size"]

# Bytes that readline and read1 look at in one go.
_LINE_CHUNK = 8 * 1024


class ObjectReader(S3Reader):
    """Base of the readers in this package.

    A reader that follows implements `read`, `_fill`, `_move`, `tell` and `_release`.

    Args:
        bucket: The object's bucket.
        key: The object's key.
        get_object_info: Tells the object's size.
        get_stream: Opens the object or a range of it.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The bucket or the key is empty.
    """

    # Defaults here, not in __init__, keep making a reader cheap and closing a half-made one safe.
    _is_ready = False  # neither closed nor holding an exception back
    _was_sought = False  # the last call was seek()
    _held_back: BaseException | None = None
    _known_size: int | None = None

    def __init__(self, bucket: str, key: str, get_object_info: GetObjectInfoCallable, get_stream: Any) -> None:
        _check_arguments(bucket, key, get_object_info, get_stream)
        self._bucket = bucket
        self._key = key
        self._get_object_info = get_object_info
        self._get_stream = get_stream
        self._is_ready = True

    @property
    def bucket(self) -> str:
        """The object's bucket."""
        return self._bucket

    @property
    def key(self) -> str:
        """The object's key."""
        return self._key

    def readinto(self, buf: Buffer) -> int:
        """Fill a buffer, fewer bytes than it holds only at the end.

        Args:
            buf: Writable, contiguous memory.

        Returns:
            How many bytes were written; 0 at the end.

        Raises:
            S3Exception: Reading from S3 failed.
            TypeError: The buffer is not writable memory.
        """
        if not self._is_ready:
            self._refuse()
        was_sought, self._was_sought = self._was_sought, False
        try:
            view = as_bytes_view(buf)
            return self._fill(view) if view.nbytes else 0
        except BaseException as error:
            if not (was_sought and is_from_archive_reader(buf, depth=1)):
                raise
            self._held_back = error
            self._is_ready = False
            return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to another position, no further than the end.

        Args:
            offset: Bytes from ``whence``.
            whence: ``SEEK_SET``, ``SEEK_CUR`` or ``SEEK_END``.

        Returns:
            The new position.

        Raises:
            S3Exception: Asking for the object's size failed.
            TypeError: An argument is not an int.
            ValueError: The target lies before the start, or ``whence`` is unknown.
        """
        if not self._is_ready:
            self._refuse()
        if type(offset) is not int:
            offset = index(offset)
        if type(whence) is not int:
            whence = index(whence)
        self._was_sought = True
        return self._move(offset, whence)

    def readinto1(self, buffer: Buffer, /) -> int:
        """Fill a buffer as `readinto` does."""
        return self.readinto(buffer)

    def read1(self, size: int = -1, /) -> bytes:
        """Return some bytes, at most ``size``: at least one unless at the end."""
        size = as_size(size)
        return self.read(_LINE_CHUNK if size < 0 else size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and with the next line feed, at most ``size``."""
        limit = as_size(size)
        line = b""
        while limit < 0 or len(line) < limit:
            chunk = self.read(_LINE_CHUNK if limit < 0 else min(_LINE_CHUNK, limit - len(line)))
            found = chunk.find(b"\n") + 1
            if found:
                if found < len(chunk):
                    self.seek(found - len(chunk), io.SEEK_CUR)
                return line + chunk[:found]
            line += chunk
            if not chunk:
                break
        return line

    def close(self) -> None:
        """End all that is in flight and drop what is buffered; nothing happens the second time."""
        if not self.closed:
            self._is_ready = False
            self._held_back = None
            try:
                self._release()
            finally:
                super().close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what the reader was made of and its position; what is buffered or in flight stays behind."""
        return _reopen, (type(self), self._arguments(), self.tell())

    def _arguments(self) -> tuple[Any, ...]:
        """The constructor's arguments."""
        return self._bucket, self._key, self._get_object_info, self._get_stream

    @abstractmethod
    def _fill(self, view: memoryview) -> int:
        """Fill a view that is not empty from the position on, and move behind; return how many bytes were written."""

    @abstractmethod
    def _move(self, offset: int, whence: int) -> int:
        """Move and return the new position."""

    @abstractmethod
    def _release(self) -> None:
        """End all I/O; may be called before the constructor has run to its end."""

    def _size(self) -> int:
        """The object's size, asked for once."""
        if self._known_size is None:
            self._known_size = self._get_object_info().size
        return self._known_size

    def _refuse(self) -> None:
        """Raise what was held back, or say that the reader is closed."""
        error, self._held_back = self._held_back, None
        if error is None:
            raise ValueError("I/O operation on a closed reader")
        self._is_ready = True
        raise error

    def _check_open(self) -> None:
        if not self._is_ready:
            self._refuse()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} s3://{self._bucket}/{self._key}{state}>"


def as_size(size: int | None) -> int:
    """Return a count of bytes, negative for all that is left; TypeError for what is no number."""
    if type(size) is int:
        return size
    return -1 if size is None else index(size)


def as_bytes_view(buffer: Buffer) -> memoryview:
    """View writable, contiguous memory as bytes; TypeError for what is none."""
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"the buffer must be writable, got a read-only {type(buffer).__name__}")
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B")


def _reopen(reader_class: type[ObjectReader], arguments: tuple[Any, ...], position: int) -> ObjectReader:
    reader = reader_class(*arguments)
    reader.seek(position)
    return reader


def _check_arguments(bucket: object, key: object, get_object_info: object, get_stream: object) -> None:
    for what, name in (("bucket", bucket), ("key", key)):
        if not isinstance(name, str):
            raise TypeError(f"{what} must be a str, got {type(name).__name__}")
        if not name:
            raise ValueError(f"{what} must not be empty")
    if not callable(get_object_info) or not callable(get_stream):
        raise TypeError("get_object_info and get_stream must be callable")
