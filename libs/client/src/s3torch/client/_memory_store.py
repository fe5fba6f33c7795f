"""S3's rules over dictionaries: what the in-memory engine stands on."""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from s3torch.client._fork_lock import ForkLock
from s3torch.client.values import GetRequest, ListObjectResult, ObjectInfo, PartResult, PutOptions, UploadInfo

__all__ = ["MemoryObject", "MemoryStore", "RefusalError"]

_MIB = 1024 * 1024
_LONGEST_KEY = 1024  # bytes of UTF-8, by "Naming Amazon S3 objects"
_MOST_PARTS = 10_000
_LARGEST_PAGE = 1000  # uploads in a page, by the API page of ListMultipartUploads
_AFTER_PREFIX = b"\xff"  # no UTF-8 string holds it, so it sorts behind all that begins with a prefix


class RefusalError(Exception):
    """What the store would answer instead of doing what was asked."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """One object as the store keeps it."""

    data: bytes
    """Its bytes."""
    etag: str
    """Entity tag, with its quotes: the MD5 of the bytes, or of the parts' MD5s with their number."""
    last_modified: int
    """When it was written, in seconds since the epoch."""
    options: PutOptions
    """Storage class, metadata, tags and so on that it was written with."""


@dataclass(slots=True)
class _Upload:
    key: str
    options: PutOptions
    initiated: int
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    objects: dict[str, MemoryObject] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    sorted_keys: list[bytes] | None = None


class MemoryStore:
    """Buckets, objects and uploads in memory, as strict as S3; shared by threads, one for each process.

    Args:
        min_part_size: Bytes that every part of an upload but the last must have; S3 has 5 MiB.
        clock: Seconds since the epoch, for the time of change.
    """

    def __init__(self, *, min_part_size: int = 5 * _MIB, clock: Callable[[], float] = time.time) -> None:
        self.min_part_size = min_part_size
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._upload_count = 0

    @staticmethod
    def named(endpoint: str | None = None) -> MemoryStore:
        """Return the store that clients of an endpoint use, an empty one the first time.

        Args:
            endpoint: The ``endpoint`` that the clients are given; any string, and None is a name, too.
        """
        with _lock():
            return _stores.setdefault(endpoint, MemoryStore())

    def create_bucket(self, name: str) -> str:
        """Make a bucket, unless it is there, and return its name."""
        if not name:
            raise ValueError("a bucket needs a name")
        with _lock():
            self._buckets.setdefault(name, _Bucket())
        return name

    def objects(self, bucket: str) -> dict[str, MemoryObject]:
        """Return a bucket's objects by key."""
        with _lock():
            return dict(self._buckets[bucket].objects)

    def uploads(self, bucket: str) -> dict[str, str]:
        """Return the keys of a bucket's unfinished multipart uploads by upload id."""
        with _lock():
            return {upload_id: upload.key for upload_id, upload in self._buckets[bucket].uploads.items()}

    def clear(self) -> None:
        """Forget all buckets."""
        with _lock():
            self._buckets.clear()

    def find(self, bucket: str, key: str) -> MemoryObject:
        """Return an object."""
        with _lock():
            found = self._bucket(bucket).objects.get(key)
        if found is None:
            raise RefusalError(404, "NoSuchKey", "The specified key does not exist")
        return found

    def find_range(self, request: GetRequest) -> tuple[MemoryObject, int, int]:
        """Return an object with first byte and byte after the last of what ``request`` asks of it."""
        found = self.find(request.bucket, request.key)
        if request.etag is not None and request.etag != found.etag:
            raise RefusalError(412, "PreconditionFailed", "The object has another ETag")
        if request.if_none_match is not None and request.if_none_match == found.etag:
            raise RefusalError(304, "")
        size = len(found.data)
        if request.start is None:
            return found, 0, size
        start = request.start if request.start >= 0 else max(0, size + request.start)
        if start >= size:
            raise RefusalError(416, "InvalidRange", "The requested range is not satisfiable")
        return found, start, size if request.end is None else min(request.end, size)

    def write(self, bucket: str, key: str, data: bytes, options: PutOptions, etag: str | None = None) -> MemoryObject:
        """Make an object, or replace it."""
        if len(key.encode()) > _LONGEST_KEY:
            raise RefusalError(400, "KeyTooLongError", "Your key is too long")
        made = MemoryObject(data, etag or f'"{_md5(data).hex()}"', int(self._clock()), options)
        with _lock():
            place = self._bucket(bucket)
            if key not in place.objects:
                place.sorted_keys = None
            elif options.if_none_match:
                raise RefusalError(412, "PreconditionFailed", "The object is already there")
            place.objects[key] = made
        return made

    def remove(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""
        with _lock():
            place = self._bucket(bucket)
            place.sorted_keys = None
            for key in keys:
                place.objects.pop(key, None)

    def page(
        self, bucket: str, prefix: str, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Return one page of a listing and the token of the next; keys are in the order of their UTF-8 bytes."""
        with _lock():
            place = self._bucket(bucket)
            if place.sorted_keys is None:
                place.sorted_keys = sorted(key.encode() for key in place.objects)
            keys, objects = place.sorted_keys, dict(place.objects)
        opening, cut = prefix.encode(), delimiter.encode()
        at = bisect_left(keys, opening)
        if token is not None:
            at = max(at, bisect_left(keys, bytes.fromhex(token)))
        elif start_after is not None:
            at = max(at, bisect_right(keys, start_after.encode()))
        page = ListObjectResult([], [])
        while at < len(keys) and keys[at].startswith(opening):
            if len(page.object_info) + len(page.common_prefixes) == max_keys:
                return page, keys[at].hex()
            found = keys[at].find(cut, len(opening)) if cut else -1
            if found >= 0:
                common = keys[at][: found + len(cut)]
                page.common_prefixes.append(common.decode())
                at = bisect_left(keys, common + _AFTER_PREFIX)
                continue
            key = keys[at].decode()
            item = objects[key]
            storage_class = item.options.storage_class or "STANDARD"
            page.object_info.append(ObjectInfo(key, item.etag, len(item.data), item.last_modified, storage_class))
            at += 1
        return page, None

    def begin(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin a multipart upload and return its id."""
        with _lock():
            place = self._bucket(bucket)
            self._upload_count += 1
            upload_id = f"upload-{self._upload_count}"
            place.uploads[upload_id] = _Upload(key, options, int(self._clock()))
        return upload_id

    def add_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> str:
        """Keep one part, or replace it, and return its ETag."""
        if not 1 <= number <= _MOST_PARTS:
            raise RefusalError(400, "InvalidArgument", f"Part number must be 1 to {_MOST_PARTS}")
        etag = f'"{_md5(data).hex()}"'
        with _lock():
            self._upload(bucket, key, upload_id).parts[number] = data, etag
        return etag

    def complete(self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], condition: bool) -> str:
        """Make the object of its parts and return its ETag."""
        with _lock():
            upload = self._upload(bucket, key, upload_id)
            if condition and key in self._bucket(bucket).objects:
                raise RefusalError(412, "PreconditionFailed", "The object is already there")
            kept = dict(upload.parts)
        if not parts:
            raise RefusalError(400, "MalformedXML", "An upload needs at least one part")
        numbers = [part.number for part in parts]
        if numbers != sorted(set(numbers)):
            raise RefusalError(400, "InvalidPartOrder", "The list of parts was not in ascending order")
        if any(kept.get(part.number, (b"", ""))[1] != part.etag for part in parts):
            raise RefusalError(400, "InvalidPart", "One or more of the specified parts could not be found")
        chosen = [kept[number][0] for number in numbers]
        if any(len(data) < self.min_part_size for data in chosen[:-1]):
            raise RefusalError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        etag = f'"{_md5(b"".join(_md5(data) for data in chosen)).hex()}-{len(chosen)}"'
        made = self.write(bucket, key, b"".join(chosen), upload.options, etag)
        self.abort(bucket, key, upload_id)
        return made.etag

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload and its parts."""
        with _lock():
            self._upload(bucket, key, upload_id)
            del self._bucket(bucket).uploads[upload_id]

    def upload_page(
        self, bucket: str, prefix: str, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Return one page of the unfinished uploads, by key and id, and what the next comes after."""
        with _lock():
            found = [
                UploadInfo(upload.key, upload_id, upload.initiated)
                for upload_id, upload in self._bucket(bucket).uploads.items()
                if upload.key.startswith(prefix)
            ]
        found.sort(key=_place_of)
        first = 0 if after is None else bisect_right(found, _place_of(after), key=_place_of)
        page = found[first : first + _LARGEST_PAGE]
        return page, page[-1] if first + len(page) < len(found) else None

    def _bucket(self, name: str) -> _Bucket:
        found = self._buckets.get(name)
        if found is None:
            raise RefusalError(404, "NoSuchBucket", "The specified bucket does not exist")
        return found

    def _upload(self, bucket: str, key: str, upload_id: str) -> _Upload:
        found = self._bucket(bucket).uploads.get(upload_id)
        if found is None or found.key != key:
            raise RefusalError(404, "NoSuchUpload", "The specified upload does not exist")
        return found


def _place_of(upload: UploadInfo) -> tuple[bytes, str]:
    return upload.key.encode(), upload.upload_id


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


# One lock for all: it is held for dictionary operations only, never while bytes are copied.
_lock = ForkLock(threading.RLock)
_stores: dict[str | None, MemoryStore] = {}
