"""S3's XML: what requests send and responses bring (Amazon S3 API reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from s3torch.client.direct.times import parse_iso_time
from s3torch.client.errors import ProtocolError
from s3torch.client.paging import next_mark
from s3torch.client.values import DeleteError, ListObjectResult, ObjectInfo, PartResult, RestoreStatus, UploadInfo

__all__ = [
    "ListFrame",
    "complete_body",
    "delete_body",
    "parse_delete_errors",
    "parse_error",
    "parse_fields",
    "parse_list",
    "parse_list_frame",
    "parse_uploads",
]

_CHECKSUM_TAGS = {"crc32": "ChecksumCRC32", "crc32c": "ChecksumCRC32C", "crc64nvme": "ChecksumCRC64NVME"}


def _root(body: bytes) -> ET.Element:
    try:
        root = ET.fromstring(body)  # noqa: S314  # expat bounds entity expansion itself
    except ET.ParseError as error:
        raise ProtocolError(f"the response is not well-formed XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def parse_error(body: bytes) -> dict[str, str] | None:
    """Return the fields of an ``Error`` document (``Code``, ``Message``, ``Region``, ...); None if it is none."""
    if b"<Error" not in body:
        return None
    try:
        root = _root(body)
    except ProtocolError:
        return None
    return {child.tag: child.text or "" for child in root} if root.tag == "Error" else None


def parse_fields(body: bytes) -> dict[str, str]:
    """Return the texts of a flat document's elements."""
    return {child.tag: child.text or "" for child in _root(body)}


def parse_list(body: bytes) -> tuple[ListObjectResult, str | None]:
    """Read a page of ListObjectsV2.

    Args:
        body: The response's body.

    Returns:
        The page, and the token of the next or None.
    """
    root, is_encoded = _list_root(body)
    objects = [
        ObjectInfo(
            _name(entry, "Key", is_encoded),
            entry.findtext("ETag") or "",
            _size(entry.findtext("Size")),
            parse_iso_time(entry.findtext("LastModified")),
            entry.findtext("StorageClass"),
            _restore_status(entry.find("RestoreStatus")),
        )
        for entry in root.iterfind("Contents")
    ]
    return ListObjectResult(objects, _common_prefixes(root, is_encoded)), _list_token(root, is_encoded)


class ListFrame(NamedTuple):
    """A page of a list without its entries."""

    is_encoded: bool
    """Whether keys are URL-encoded."""
    common_prefixes: list[str]
    token: str | None
    """What asks for the next page, or None."""


def parse_list_frame(body: bytes, mark: str) -> ListFrame | None:
    """Read a page of ListObjectsV2 whose entries have been taken out.

    Args:
        body: The response's body, with one empty element in place of the entries.
        mark: That element's name.

    Returns:
        What is left of the page; None where the mark is not the one child of the root that it should be.
    """
    root, is_encoded = _list_root(body)
    if sum(child.tag == mark for child in root) != 1:
        return None
    return ListFrame(is_encoded, _common_prefixes(root, is_encoded), _list_token(root, is_encoded))


def _list_root(body: bytes) -> tuple[ET.Element, bool]:
    root = _root(body)
    if root.tag != "ListBucketResult":
        raise ProtocolError(f"expected a list, got <{root.tag}>")
    return root, root.findtext("EncodingType") == "url"


def _name(element: ET.Element, tag: str, is_encoded: bool) -> str:
    value = element.findtext(tag) or ""
    return unquote_plus(value) if is_encoded else value


def _common_prefixes(root: ET.Element, is_encoded: bool) -> list[str]:
    return [_name(entry, "Prefix", is_encoded) for entry in root.iterfind("CommonPrefixes")]


def _list_token(root: ET.Element, is_encoded: bool) -> str | None:
    return next_mark(
        root.findtext("IsTruncated") == "true",
        root.findtext("NextContinuationToken"),
        operation="ListObjectsV2",
        prefix=_name(root, "Prefix", is_encoded),
    )


def parse_uploads(body: bytes) -> tuple[list[UploadInfo], UploadInfo | None]:
    """Read a page of ListMultipartUploads.

    Args:
        body: The response's body.

    Returns:
        The uploads, and the one that the next page comes after or None.
    """
    root = _root(body)
    if root.tag != "ListMultipartUploadsResult":
        raise ProtocolError(f"expected a list of uploads, got <{root.tag}>")
    is_encoded = root.findtext("EncodingType") == "url"
    uploads = [
        UploadInfo(
            unquote_plus(entry.findtext("Key") or "") if is_encoded else entry.findtext("Key") or "",
            entry.findtext("UploadId") or "",
            parse_iso_time(entry.findtext("Initiated")),
        )
        for entry in root.iterfind("Upload")
    ]
    return uploads, next_mark(
        root.findtext("IsTruncated") == "true",
        uploads[-1] if uploads else None,
        operation="ListMultipartUploads",
        prefix=_name(root, "Prefix", is_encoded),
    )


def _size(text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise ProtocolError(f"the list has an object of impossible size: {(text or '')[:80]!r}")
    return int(text)


def _restore_status(element: ET.Element | None) -> RestoreStatus | None:
    if element is None:
        return None
    expiry = element.findtext("RestoreExpiryDate")
    return RestoreStatus(
        element.findtext("IsRestoreInProgress") == "true", parse_iso_time(expiry) if expiry is not None else None
    )


def delete_body(keys: Sequence[str]) -> bytes:
    """Write the body of DeleteObjects, answered quietly: errors only."""
    objects = "".join(f"<Object><Key>{_escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()


def _escape(text: str) -> str:
    # XML 1.0 reads a bare CR as LF, so that it needs a reference (section 2.11).
    return escape(text, {"\r": "&#13;", "\n": "&#10;"})


def parse_delete_errors(body: bytes) -> list[DeleteError]:
    """Read which keys DeleteObjects could not delete."""
    if not body:
        return []
    return [
        DeleteError(entry.findtext("Key") or "", entry.findtext("Code") or "", entry.findtext("Message") or "")
        for entry in _root(body).iterfind("Error")
    ]


def complete_body(parts: Sequence[PartResult]) -> bytes:
    """Write the body of CompleteMultipartUpload."""
    entries = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>{_checksums(part.checksums)}</Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>".encode()


def _checksums(checksums: Mapping[str, str]) -> str:
    return "".join(
        f"<{_CHECKSUM_TAGS[name]}>{value}</{_CHECKSUM_TAGS[name]}>"
        for name, value in checksums.items()
        if name in _CHECKSUM_TAGS
    )
