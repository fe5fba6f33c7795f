"""The values that the verbs take and return: frozen, slotted, without behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "CopyResult",
    "DeleteError",
    "GetInfo",
    "GetRequest",
    "GetResult",
    "HeadObjectResult",
    "ListObjectResult",
    "ObjectInfo",
    "PartResult",
    "PutOptions",
    "PutResult",
    "RestoreStatus",
    "S3BucketKeyData",
    "UploadInfo",
]


@dataclass(frozen=True, slots=True)
class RestoreStatus:
    """State of an object's restore from an archive storage class."""

    in_progress: bool
    """Whether a restore is under way."""
    expiry: int | None = None
    """When the restored copy expires, in seconds since the epoch; None while in progress."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of one object."""

    key: str
    """The object's key."""
    etag: str
    """Entity tag, with its quotes, as the store sent it."""
    size: int
    """Size in bytes."""
    last_modified: int
    """Time of the last change, in seconds since the epoch."""
    storage_class: str | None = None
    """Storage class, where the store tells it."""
    restore_status: RestoreStatus | None = None
    """State of a restore from archive, where the store tells it."""


@dataclass(frozen=True, slots=True)
class HeadObjectResult:
    """What a HEAD says of one object."""

    etag: str
    """Entity tag, with its quotes, as the store sent it."""
    size: int
    """Size in bytes."""
    last_modified: int
    """Time of the last change, in seconds since the epoch."""
    storage_class: str | None = None
    """Storage class, where the store tells it."""
    restore_status: RestoreStatus | None = None
    """State of a restore from archive, where the store tells it."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The user's metadata, names in lower case without the ``x-amz-meta-`` prefix."""


@dataclass(frozen=True, slots=True)
class ListObjectResult:
    """One page of a listing."""

    object_info: list[ObjectInfo]
    """The page's objects, in key order."""
    common_prefixes: list[str]
    """The key prefixes up to the delimiter that stand for more than one object."""


class S3BucketKeyData(NamedTuple):
    """One object of a dataset: where it lies and, if a listing told, what it is."""

    bucket: str
    key: str
    object_info: ObjectInfo | HeadObjectResult | None = None


@dataclass(frozen=True, slots=True)
class GetRequest:
    """A whole object or one contiguous range of it."""

    bucket: str
    key: str
    start: int | None = None
    """First byte; None asks for the whole object; negative counts from the object's end (``end`` must be None then)."""
    end: int | None = None
    """Byte after the last; None reads to the object's end."""
    etag: str | None = None
    """Read only while the object still has this entity tag; another one is `ObjectChangedError`."""
    size: int | None = None
    """The object's whole size in bytes, if the caller knows it; lets large objects be read in parallel at once."""
    if_none_match: str | None = None
    """Read only if the object has another entity tag than this one; else `PreconditionFailedError`, status 304."""

    def __post_init__(self) -> None:
        """Check the range."""
        start, end = self.start, self.end
        if start is None:
            if end is not None:
                raise ValueError(f"a range needs a start: got end={end} without one")
        elif end is not None:
            if start < 0:
                raise ValueError(f"a range from the object's end (start={start}) takes no end, got end={end}")
            if end <= start:
                raise ValueError(f"a range must hold at least one byte: got start={start}, end={end}")

    def narrow(self, start: int | None, end: int | None, etag: str | None, size: int | None = None) -> GetRequest:
        """Return a request for another range of the same object.

        Args:
            start: First byte; None asks for the whole object.
            end: Byte after the last; None reads to the object's end.
            etag: Read only while the object still has this entity tag.
            size: The object's whole size, if known.
        """
        return GetRequest(self.bucket, self.key, start, end, etag, size)


@dataclass(frozen=True, slots=True)
class GetInfo:
    """What the head of a response tells of the object and of the range that follows."""

    start: int
    """Offset in the object of the first byte that follows."""
    length: int
    """How many bytes follow."""
    size: int
    """The whole object's size in bytes."""
    etag: str
    """The object's entity tag, with its quotes."""


@dataclass(frozen=True, slots=True)
class GetResult:
    """The bytes of one `GetRequest` and what the store said of the object."""

    request: GetRequest
    """What was asked for."""
    data: bytes | memoryview
    """The bytes; the filled part of the caller's own buffer where one was given."""
    info: GetInfo
    """What the response's head said."""


@dataclass(frozen=True, slots=True)
class PutOptions:
    """What an upload asks of the store besides keeping the bytes."""

    storage_class: str | None = None
    """Storage class, such as ``STANDARD_IA``."""
    content_type: str | None = None
    """Media type of the object."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The user's metadata; names without the ``x-amz-meta-`` prefix."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Object tags."""
    server_side_encryption: str | None = None
    """``AES256``, ``aws:kms`` or ``aws:kms:dsse``."""
    kms_key_id: str | None = None
    """Key for ``aws:kms``."""
    acl: str | None = None
    """Canned ACL, such as ``bucket-owner-full-control``."""
    if_none_match: bool = False
    """Create only: an object that is already there is `PreconditionFailedError`."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What the store said of a finished upload."""

    etag: str
    """Entity tag of the new object, with its quotes."""


@dataclass(frozen=True, slots=True)
class PartResult:
    """One uploaded part, as completing the upload needs it."""

    number: int
    """Part number, from 1."""
    etag: str
    """Entity tag of the part, with its quotes."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Checksums sent with the part: algorithm in lower case, such as ``crc32``, to base64 value."""


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    """The object it is to become."""
    upload_id: str
    """The upload's id."""
    initiated: int
    """When it was begun, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What the store said of a finished copy."""

    etag: str
    """Entity tag of the new object, with its quotes."""


@dataclass(frozen=True, slots=True)
class DeleteError:
    """One key that deleting many could not delete."""

    key: str
    code: str
    message: str
