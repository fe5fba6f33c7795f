"""`SequentialS3Reader`: the default, for any pattern of access."""

from __future__ import annotations

import io
import time
from typing import Any

from s3torch.readers._ahead import ReadAhead
from s3torch.readers._archive import ArchiveWatch, read_through
from s3torch.readers._iterator_stream import as_byte_stream, fetches_ranges
from s3torch.readers._object_reader import ObjectReader, as_size
from s3torch.readers._torch_calls import is_from_c
from s3torch.readers.protocol import ByteStream

__all__ = ["SequentialS3Reader"]


class SequentialS3Reader(ObjectReader):
    """A reader of one object that reads what it is asked for, and ahead while the reading is sequential.

    Large reads go straight into their destination, in parallel; small ones are served from pieces that are kept, within
    the stream's bound of memory, and can be read again without a request. The object's last bytes are fetched without
    the rest. `torch.load` finds its records fetched ahead. With a stream that is only an iterator of `bytes` all that
    it yielded is kept.

    Args:
        bucket: The object's bucket.
        key: The object's key.
        get_object_info: Tells what the store says of the object; called only if the stream cannot tell its end.
        get_stream: Opens the object: called without arguments, once, when the first byte is asked for.
    """

    _stream: ByteStream | None = None
    _ahead: ReadAhead | None = None
    _watch: ArchiveWatch | None = None

    def prefetch(self) -> None:
        """Start to fetch the object's bytes from the position on; returns at once where the stream can do so.

        Raises:
            S3Exception: The store refused.
        """
        self._check_open()
        stream = self._open()
        prefetch = getattr(stream, "prefetch", None)
        if callable(prefetch):
            prefetch()

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes.

        Args:
            size: How many; None or negative reads all that is left.

        Returns:
            The bytes; fewer than asked for only at the end.

        Raises:
            S3Exception: Reading from S3 failed.
            TypeError: The size is not an int.
        """
        if not self._is_ready:
            self._refuse()
        self._was_sought = False
        size = as_size(size)
        stream = self._stream
        if stream is None:
            stream = self._open()
        return stream.read(size)

    def tell(self) -> int:
        """Return the position: the offset of the next byte."""
        if not self._is_ready:
            self._refuse()
        return 0 if self._stream is None else self._stream.tell()

    def _fill(self, view: memoryview) -> int:
        stream = self._stream
        if stream is None:
            stream = self._open()
        if not fetches_ranges(stream):
            return stream.readinto(view)
        if self._ahead is not None:
            return read_through(self._ahead, stream, view)
        if not is_from_c(view):
            return stream.readinto(view)
        if self._watch is None:
            self._watch = ArchiveWatch(stream)
        start, before = stream.tell(), time.perf_counter()
        count = stream.readinto(view)
        seconds = time.perf_counter() - before
        if count == len(view):
            self._ahead = self._watch.saw(start, view, stream.seek(0, io.SEEK_END), seconds)
            stream.seek(start + count)
        return count

    def _move(self, offset: int, whence: int) -> int:
        stream = self._stream
        if stream is None:
            if offset == 0 and whence in (io.SEEK_SET, io.SEEK_CUR):
                return 0
            stream = self._open()
        return stream.seek(offset, whence)

    def _open(self) -> ByteStream:
        stream = self._stream
        if stream is None:
            source: Any = self._get_stream()
            stream = self._stream = as_byte_stream(source, self._size)
        return stream

    def _release(self) -> None:
        ahead, self._ahead = self._ahead, None
        stream, self._stream = self._stream, None
        if ahead is not None:
            ahead.close()
        if stream is not None:
            stream.close()
