"""`list_index`: a prefix listed in parallel, whatever its keys look like."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from s3torch.client import S3Client, S3Uri, Transfer, parse_s3_uri
from s3torch.client.listing import ListPage
from s3torch.client.paging import Paging
from s3torch.client.protocols import Lists
from s3torch.datasets._bar import check_bar
from s3torch.datasets.index._building import build
from s3torch.datasets.index._chunks import Chunk, join_chunks, make_chunk
from s3torch.datasets.index._keyspace import KeyRange, propose, share_out
from s3torch.datasets.index.broadcast import make_once
from s3torch.datasets.index.s3index import S3Index

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["list_index"]

_PAGE = 1000
_SAMPLE = 32
_JOINED = 64  # pages in a chunk
# S3 directory buckets list in no order, and know no start (user guide, "Directory buckets", ListObjectsV2).
_UNORDERED = ("--x-s3", "--xa-s3")
# Requests that found nothing, beside as many as pages that found something: what a key space may cost to explore.
_FREE_PROBES = 64
# Ranges opened at a time for each page that is there: a listing of two pages need not ask thirty times.
_EAGERNESS = 8


def list_index(
    client: S3Client,
    s3_uri: str,
    *,
    connections: int = 32,
    progress: bool = False,
    group: ProcessGroup | None = None,
) -> S3Index:
    """List all objects whose keys begin with a prefix, several pages at once.

    The first page tells what the keys look like. Ranges of the keys to come are then listed side by side; whenever one
    ends, another is split at a key that its last page makes likely. Keys that are written or deleted meanwhile may or
    may not be listed; all others are, once each. Nothing runs in the background.

    Stores that do not list in order (S3's directory buckets) are listed page after page, and sorted.

    With a process group the first of its ranks lists, and all of them get the same index: one listing for a job, and no
    two ranks that disagree about a bucket which is changing. All ranks of the group must call it then; those that wait
    do so for the group's time-out at most, and what the first raises is raised on each.

    Args:
        client: Lists. With an engine whose requests block (``boto3``) pages come one after the other.
        s3_uri: ``s3://bucket/prefix``; ``s3://bucket`` is the whole bucket.
        connections: Requests in flight at most.
        progress: Show a bar of the keys listed, with ``tqdm``, on the rank that lists.
        group: The ranks that share one listing, such as ``torch.distributed.group.WORLD``, which is None before
            ``init_process_group``. None lists for this process alone. With the backend ``nccl`` the current device of
            each rank must be its own.

    Returns:
        The index, in the order of the keys' UTF-8 bytes; empty where no key begins so.

    Raises:
        ImportError: ``progress`` is asked for, and ``tqdm`` is not installed.
        ProtocolError: The store gives a page again, or does not say how the list goes on.
        RuntimeError: Another rank of the group could not take the index.
        S3Exception: A page cannot be had; what else is in flight has been cancelled.
        TypeError: An argument has the wrong type.
        ValueError: The URI is malformed, ``connections`` is less than 1, this process is not a member of the group, or
            its ranks ask for different prefixes.
    """
    if group is not None:
        # Whatever is wrong with the other arguments is found on the first rank, or the ranks would wait for each other.
        alone = partial(list_index, client, s3_uri, connections=connections, progress=progress)
        return make_once(alone, group, str(s3_uri))
    uri = parse_s3_uri(s3_uri)
    if operator.index(connections) < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    if progress:
        check_bar()
    with _bar(str(uri), progress) as note:
        return list_prefix(client.engine, uri, connections, note)


def list_prefix(
    engine: Lists, uri: S3Uri, connections: int, note: Callable[[int], object], *, page_size: int = _PAGE
) -> S3Index:
    """List a prefix into an index, in the order of the keys.

    Args:
        engine: Where to list.
        uri: Bucket and prefix.
        connections: Requests in flight at most.
        note: Told of the keys of each page.
        page_size: Keys in a page at most.
    """
    if not uri.bucket.endswith(_UNORDERED):
        listing = _Listing(engine, uri, connections, note, page_size)
        try:
            return S3Index(build(listing.run()))
        except _OutOfOrderError:
            note(-listing.noted)
    chunks, in_order = _list_serially(engine, uri, note, page_size)
    index = S3Index(build(chunks))
    return index if in_order else _sort(index)


class _OutOfOrderError(Exception):
    """The store does not list in the order of keys, or not from where it is asked to."""


@dataclass(slots=True)
class _Part:
    """A range of keys with what has been listed of it."""

    space: KeyRange
    paging: Paging[str]
    chunks: list[Chunk] = field(default_factory=list)
    loose: int = 0
    """How many of the last chunks are pages of their own."""
    token: str | None = None
    transfer: Transfer[ListPage] | None = None


class _Listing:
    """The ranges of one listing, in order; each has one request in flight until it is done."""

    def __init__(
        self, engine: Lists, uri: S3Uri, connections: int, note: Callable[[int], object], page_size: int
    ) -> None:
        self._engine = engine
        self._uri = uri
        self._head = f"{uri.bucket}/".encode()
        self._connections = connections
        self._note = note
        self._page_size = page_size
        self._parts = [self._make_part("")]
        self._found = self._missed = 0
        self.noted = 0

    def run(self) -> list[Chunk]:
        """List all."""
        try:
            [first] = self._parts
            self._start(first)
            if first.transfer is not None and first.transfer.done():
                self._connections = 1  # its requests block: side by side they would only be more
            while running := [part for part in self._parts if part.transfer is not None]:
                self._wait(running)
                for part in running:
                    if part.transfer is not None and part.transfer.done():
                        self._take(part, part.transfer.result())
                self._split()
        finally:
            for part in self._parts:
                if part.transfer is not None:
                    part.transfer.cancel()
        return [chunk for part in self._parts for chunk in part.chunks]

    def _make_part(self, after: str, until: str | None = None) -> _Part:
        return _Part(KeyRange(self._uri.key, after, until), _paging(self._uri))

    @staticmethod
    def _wait(running: list[_Part]) -> None:
        transfers = [part.transfer for part in running if part.transfer is not None]
        if not any(transfer.done() for transfer in transfers):
            transfers[0].wait(lambda: any(transfer.done() for transfer in transfers))

    def _start(self, part: _Part) -> None:
        part.transfer = self._engine.start_list_page(
            self._uri.bucket,
            self._uri.key,
            delimiter="",
            max_keys=self._page_size,
            token=part.token,
            start_after=None if part.token is not None else part.space.after or None,
        )

    def _take(self, part: _Part, page: ListPage) -> None:
        """Keep what a page has of its range, and ask for the next one if it goes on."""
        space = part.space
        keys = page.keys
        part.transfer, part.token = None, part.paging.turn(page.token, keys[0] if keys else None)
        if not keys:
            self._missed += 1
        else:
            if keys[0] <= space.after.encode() or not _is_sorted(keys):
                raise _OutOfOrderError
            kept = len(keys) if space.until is None else bisect_right(keys, space.until.encode())
            if kept:
                self._found += 1
                self._note(kept)
                self.noted += kept
                part.chunks.append(_chunk(self._head, page, kept))
                part.loose += 1
                if part.loose == _JOINED:
                    part.chunks[-_JOINED:] = [join_chunks(part.chunks[-_JOINED:])]
                    part.loose = 0
                space.first, space.after, space.seen = keys[0].decode(), keys[kept - 1].decode(), kept
                space.sample = [key.decode() for key in keys[: kept : max(1, kept // _SAMPLE)]]
            else:
                self._missed += 1
            if kept < len(keys):
                return
        if part.token is not None and (space.until is None or space.after < space.until):
            self._start(part)

    def _split(self) -> None:
        """Give idle requests something to do."""
        running = [part for part in self._parts if part.transfer is not None]
        idle = min(
            self._connections - len(running), _EAGERNESS * self._found, _FREE_PROBES + self._found - self._missed
        )
        known = [part for part in running if part.space.first is not None]
        if idle < 1 or not known:
            return
        for part, following in zip(self._parts, [*self._parts[1:], None], strict=True):
            part.space.is_open = following is None or not following.chunks
        for part, count in zip(known, share_out([part.space for part in known], idle, self._page_size), strict=True):
            until = part.space.until
            keys = propose(part.space, count)
            if keys:
                part.space.until = keys[0]
                ends = [*keys[1:], until]
                place = self._parts.index(part) + 1
                added = [self._make_part(key, end) for key, end in zip(keys, ends, strict=True)]
                self._parts[place:place] = added
                for new in added:
                    self._start(new)


def _chunk(head: bytes, page: ListPage, count: int) -> Chunk:
    return make_chunk(
        head,
        page.keys[:count],
        page.sizes[:count],
        page.etags[:count],
        page.last_modified[:count],
        page.storage_classes[:count],
    )


def _is_sorted(keys: Sequence[bytes]) -> bool:
    return list(keys) == sorted(keys)


def _list_serially(
    engine: Lists, uri: S3Uri, note: Callable[[int], object], page_size: int
) -> tuple[list[Chunk], bool]:
    """List page after page; say whether the keys came in order."""
    head = f"{uri.bucket}/".encode()
    chunks: list[Chunk] = []
    paging = _paging(uri)
    token: str | None = None
    last = b""
    in_order = True
    while True:
        transfer = engine.start_list_page(
            uri.bucket, uri.key, delimiter="", max_keys=page_size, token=token, start_after=None
        )
        try:
            page = transfer.result()
        except BaseException:
            transfer.cancel()
            raise
        token = paging.turn(page.token, page.keys[0] if page.keys else None)
        if page.keys:
            in_order = in_order and last < page.keys[0] and _is_sorted(page.keys)
            last = page.keys[-1]
            chunks.append(_chunk(head, page, len(page.keys)))
            note(len(page.keys))
        if token is None:
            return chunks, in_order


def _paging(uri: S3Uri) -> Paging[str]:
    return Paging("ListObjectsV2", uri.bucket, uri.key)


def _sort(index: S3Index) -> S3Index:
    """Return an index in the order of its keys, which lie in one bucket."""
    keys = [item.key.encode() for item in index]
    return index.take(np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64))


@contextmanager
def _bar(title: str, is_wanted: bool) -> Iterator[Callable[[int], object]]:
    """Give the function that is told of keys."""
    if not is_wanted:
        yield lambda _: None
        return
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types of its own
        monitor_interval = 0  # no thread that watches it

    with Bar(desc=title, unit=" keys", unit_scale=True, dynamic_ncols=True) as bar:
        yield bar.update
