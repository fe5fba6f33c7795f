"""What an engine can do: one small protocol for each capability, and the transfer that a start returns.

Engines implement them (`direct`, `boto3`, `memory`), decorators wrap them (faults, latency, metrics), and everything
above -- streams, windows, parallel parts, readers and writers -- is written once over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from s3torch.client.config import S3ClientConfig
from s3torch.client.listing import ListPage
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetInfo,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    PartResult,
    PutOptions,
    PutResult,
    UploadInfo,
)

__all__ = [
    "Body",
    "Copies",
    "Deletes",
    "Engine",
    "EngineContext",
    "Gets",
    "Heads",
    "Into",
    "Lists",
    "ListsUploads",
    "Multiparts",
    "Puts",
    "Transfer",
]

T_co = TypeVar("T_co", covariant=True)

Body: TypeAlias = Sequence[memoryview]
"""What is uploaded: pieces of memory (format ``B``, contiguous) sent one after the other, never copied."""

Into: TypeAlias = "memoryview | Callable[[GetInfo], memoryview] | None"
"""Where a download goes: a writable buffer of exactly the range's length, a function that is given what the head of
the response says and returns such a buffer, or None for fresh memory that becomes `bytes`."""


class Transfer(Protocol[T_co]):
    """A request that has been started. Nothing happens to it but while somebody waits.

    Waiting for one transfer drives all that the same thread has started. The memory a transfer reads or fills must
    stay valid until it is done or cancelled.
    """

    def done(self) -> bool:
        """Whether it has ended, with a result or an error; never waits."""
        ...

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Drive transfers until this one is done or ``until()`` is true, whichever comes first.

        ``until`` is asked after every step. Raises nothing of the transfer's own; `result` does.
        """
        ...

    def advance(self, seconds: float = 0.0) -> None:
        """Do what can be done now, and if that is nothing, wait at most ``seconds`` until something can be done.

        Drives, as `wait` does, all that the same thread has started. Raises nothing of the transfer's own.
        """
        ...

    def result(self) -> T_co:
        """Wait until it is done; return its result or raise its error.

        Whoever asks again gets a copy of the error, without its cause and its frames.
        """
        ...

    def cancel(self) -> None:
        """End it at once: afterwards nothing touches its memory. Nothing happens if it is done."""
        ...

    def rebase(self, body: Body) -> None:
        """Send the rest of an upload from an equal copy of its body: afterwards nothing touches the old memory.

        Nothing happens if it is done. Not for downloads.
        """
        ...


@runtime_checkable
class Gets(Protocol):
    """Read an object or a range of it."""

    def start_get(self, request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        """Start one GET. An answer of another length or of another ETag than asked for is an error, never data."""
        ...


@runtime_checkable
class Heads(Protocol):
    """Ask for an object's metadata."""

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Return the metadata of an object."""
        ...


@runtime_checkable
class Lists(Protocol):
    """List a bucket."""

    def start_list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> Transfer[ListPage]:
        """Start to ask for one page: the one that `list_page` returns, in columns.

        Raises nothing that the store says; `Transfer.result` does. Whoever follows a listing's pages lets `Paging`
        look at each.
        """
        ...

    def list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Return one page, and the token of the next or None; `next_mark` tells it from what the store says."""
        ...


@runtime_checkable
class Puts(Protocol):
    """Write an object in one request."""

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> Transfer[PutResult]:
        """Start one PUT."""
        ...


@runtime_checkable
class Multiparts(Protocol):
    """Write an object in parts. It exists once completed, and not before."""

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        ...

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Transfer[PartResult]:
        """Start to send part ``number`` (1 to 10,000; at least 5 MiB but for the last)."""
        ...

    def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        source: GetRequest,
    ) -> PartResult:
        """Make part ``number`` of a range of another object, within the store."""
        ...

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Make the object of its parts, in order."""
        ...

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts; an upload that is not there is no error."""
        ...


@runtime_checkable
class ListsUploads(Protocol):
    """List what was begun and not ended."""

    def list_uploads(
        self, bucket: str, prefix: str, *, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Return one page of the uploads that are neither completed nor aborted, and what the next comes after."""
        ...


@runtime_checkable
class Deletes(Protocol):
    """Delete objects."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete one object; one that is not there is no error, as in S3."""
        ...

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        """Delete up to 1,000 objects in one request; return those that could not be."""
        ...


@runtime_checkable
class Copies(Protocol):
    """Copy an object within the store, up to 5 GiB."""

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        """Copy the whole ``source`` (on condition of its ETag, where given)."""
        ...


class Engine(Gets, Heads, Lists, Puts, Multiparts, ListsUploads, Deletes, Copies, Protocol):
    """All capabilities of a store, and its end."""

    @property
    def region(self) -> str:
        """The region requests are made for."""
        ...

    def helper_threads(self, size: int) -> int:
        """How many threads beside the caller's are worth their cost for a transfer of ``size`` bytes; 0 for none."""
        ...

    def release_thread(self) -> None:
        """Give back what the calling thread holds (connections), for the next thread to use."""
        ...

    def close(self) -> None:
        """End all transfers and connections; the engine can be used again afterwards."""
        ...


@dataclass(frozen=True)
class EngineContext:
    """What an engine is made from; it is also what a client pickles as."""

    region: str | None
    endpoint: str | None
    user_agent: str
    config: S3ClientConfig
