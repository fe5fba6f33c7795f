"""What readers are made of, as types: the streams they read, and the callables that make streams and readers.

Readers look at what an object can do, never at its class, so anyone's stream works. From plain to fast:

* any iterator of `bytes`;
* a `ByteStream`, which fills buffers and seeks;
* a `RangeStream`, which also fetches ranges while something else is waited for, as `s3torch.client.GetObjectStream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from s3torch.client import GetInfo, GetResult, HeadObjectResult, ObjectInfo, Transfer
from s3torch.readers.item_ranges import ItemRange

if TYPE_CHECKING:
    from s3torch.readers.reader import S3Reader

__all__ = [
    "ByteStream",
    "DCPS3ReaderConstructorProtocol",
    "GetObjectInfoCallable",
    "GetStreamCallable",
    "RangeStream",
    "S3ReaderConstructorProtocol",
    "StreamLike",
]


@runtime_checkable
class ByteStream(Protocol):
    """Bytes of an object that can be read at any offset, straight into a buffer."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, all that is left where it is None or negative; fewer only at the end."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill ``buffer`` and return how many bytes were written; fewer than it holds only at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, no further than the end, and return the new offset in the object."""
        ...

    def tell(self) -> int:
        """Return the offset in the object of the next byte."""
        ...

    def close(self) -> None:
        """End all I/O."""
        ...


@runtime_checkable
class RangeStream(ByteStream, Protocol):
    """A `ByteStream` that sends nothing before it is asked for bytes, and fetches ranges side by side."""

    @property
    def buffered(self) -> Sequence[tuple[int, int]]:
        """First byte and byte after the last of each stretch that is buffered or on its way."""
        ...

    def start_range(self, start: int, end: int, into: memoryview | None = None, /) -> Transfer[GetResult]:
        """Start to fetch ``[start, end)`` into a buffer of that length, past the stream's own buffers."""
        ...

    def learn(self, info: GetInfo, /) -> None:
        """Hold the stream to what a response to `start_range` said of the object."""
        ...

    def lend(self, size: int, /) -> int:
        """Give up to ``size`` bytes of the stream's memory bound to who reads ahead by `start_range`."""
        ...


StreamLike: TypeAlias = "ByteStream | Iterator[bytes] | Iterable[bytes]"
"""What `get_stream` may return."""

GetObjectInfoCallable: TypeAlias = Callable[[], "ObjectInfo | HeadObjectResult"]
"""Tells what the store says of the object; called at most once, and only if the size is needed and not yet known."""


class GetStreamCallable(Protocol):
    """Opens the object, or a range of it.

    One whose streams simply stop at the object's end, however much is asked for, may say so by an attribute
    ``clips_ranges = True``: readers then need not ask for the size before their first read.
    """

    def __call__(self, start: int | None = None, end: int | None = None) -> StreamLike:
        """Open the bytes from ``start`` (None: the first) up to, not including, ``end`` (None: all)."""
        ...


class S3ReaderConstructorProtocol(Protocol):
    """Makes a reader of one object. It has to pickle: datasets take it to their workers."""

    def __call__(
        self, bucket: str, key: str, get_object_info: GetObjectInfoCallable, get_stream: GetStreamCallable
    ) -> S3Reader:
        """Return a reader that has sent nothing yet; the arguments are given by name."""
        ...


class DCPS3ReaderConstructorProtocol(S3ReaderConstructorProtocol, Protocol):
    """Makes readers of known ranges of objects, as a distributed checkpoint's load plan tells them."""

    def set_item_ranges_by_file(self, item_ranges_by_file: Mapping[str, Sequence[ItemRange]]) -> None:
        """Tell, for each object's key, which ranges will be read."""
        ...
