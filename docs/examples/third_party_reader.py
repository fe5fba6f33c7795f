"""A reader of one's own: it reads ahead, and stands on nothing but what a reader constructor is given.

    s3torch conform --reader third_party_reader:ReadAheadReader --slack 256KiB

puts it to the test, and `S3MapDataset.from_prefix(..., reader_constructor=ReadAheadReader)` uses it.
"""

from __future__ import annotations

import io
from operator import index
from typing import TYPE_CHECKING, Any

from s3torch.readers import GetObjectInfoCallable, GetStreamCallable, is_from_archive_reader

if TYPE_CHECKING:
    from typing_extensions import Buffer

AHEAD = 256 * 1024


class ReadAheadReader(io.BufferedIOBase):
    """Fetches at least `AHEAD` bytes at a time, and never a byte before somebody asks.

    Args:
        bucket: The object's bucket.
        key: The object's key.
        get_object_info: Asks the store for the object's size.
        get_stream: Opens a range of the object.
    """

    def __init__(
        self, bucket: str, key: str, get_object_info: GetObjectInfoCallable, get_stream: GetStreamCallable
    ) -> None:
        self.name = f"s3://{bucket}/{key}"
        self._get_object_info, self._get_stream = get_object_info, get_stream
        self._size: int | None = None
        self._position = 0
        self._ahead, self._ahead_start = b"", 0
        self._was_sought = False
        self._held_back: BaseException | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, no further than the end."""
        self._check()
        offset, whence = index(offset), index(whence)
        if whence not in (0, 1, 2):
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        target = offset + (0, self._position, self._total() if whence == 2 else 0)[whence]
        if target < 0:
            raise ValueError(f"cannot seek before the start: {target}")
        self._position = min(target, self._total()) if target else 0
        self._was_sought = True
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, all that is left where it is None or negative."""
        self._check()
        wanted = -1 if size is None else index(size)
        left = self._total() - self._position
        memory = bytearray(left if wanted < 0 else min(wanted, left))
        return bytes(memory[: self._fill(memoryview(memory))])

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer; fewer bytes than it holds only at the end."""
        self._check()
        was_sought, self._was_sought = self._was_sought, False
        view = memoryview(buffer)
        if view.readonly:
            raise TypeError("the buffer must be writable")
        view = view.cast("B")
        try:
            return self._fill(view[: self._total() - self._position])
        except BaseException as error:
            if not (was_sought and is_from_archive_reader(buffer, depth=1)):
                raise
            self._held_back = error
            return 0

    def close(self) -> None:
        """Drop what was read ahead."""
        self._ahead = b""
        super().close()

    def _fill(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            offset = self._position - self._ahead_start
            piece = self._ahead[offset : offset + len(view) - done] if offset >= 0 else b""
            if not piece:
                self._load(max(AHEAD, len(view) - done))
                continue
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def _load(self, size: int) -> None:
        start, end = self._position, min(self._position + size, self._total())
        stream: Any = self._get_stream(start, end)
        self._ahead, self._ahead_start = b"".join(stream), start
        if len(self._ahead) != end - start:
            raise OSError(f"{self.name}: asked for {end - start} bytes, {len(self._ahead)} came")

    def _total(self) -> int:
        if self._size is None:
            self._size = self._get_object_info().size
        return self._size

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed reader")
        error, self._held_back = self._held_back, None
        if error is not None:
            raise error


class HastyReader(ReadAheadReader):
    """Has a mistake that is made easily: what is not at hand at once is left for the next call."""

    def _fill(self, view: memoryview) -> int:
        return super()._fill(view[:AHEAD])
