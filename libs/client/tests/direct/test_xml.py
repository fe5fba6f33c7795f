"""S3's XML, read and written."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import DeleteError, ObjectInfo, PartResult, ProtocolError, RestoreStatus, UploadInfo
from s3torch.client._xml_text import is_xml_text
from s3torch.client.direct.xml import (
    complete_body,
    delete_body,
    parse_delete_errors,
    parse_error,
    parse_fields,
    parse_list,
    parse_uploads,
)

KEY = st.text(min_size=1, max_size=30).filter(is_xml_text)

PAGE = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>bucket</Name><Prefix>a/</Prefix><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
  <NextContinuationToken>next+token/=</NextContinuationToken>
  <Contents>
    <Key>a/with%20space%2Band+plus%0A%E2%82%AC</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>
    <ETag>&quot;abc-2&quot;</ETag><Size>5368709121</Size><StorageClass>GLACIER</StorageClass>
    <RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>
      <RestoreExpiryDate>2026-02-01T00:00:00Z</RestoreExpiryDate></RestoreStatus>
  </Contents>
  <Contents><Key>a/empty</Key><Size>0</Size><ETag/></Contents>
  <CommonPrefixes><Prefix>a/b%2F</Prefix></CommonPrefixes>
  <CommonPrefixes><Prefix>a/c/</Prefix></CommonPrefixes>
</ListBucketResult>"""


def test_reads_a_page_of_a_list() -> None:
    page, token = parse_list(PAGE)
    assert token == "next+token/="
    assert page.object_info == [
        ObjectInfo(
            "a/with space+and plus\n€",
            '"abc-2"',
            5368709121,
            1767323045,
            "GLACIER",
            RestoreStatus(in_progress=False, expiry=1769904000),
        ),
        ObjectInfo("a/empty", "", 0, 0, None, None),
    ]
    assert page.common_prefixes == ["a/b/", "a/c/"]


def test_keys_are_taken_as_they_are_unless_the_store_says_they_are_encoded() -> None:
    page, token = parse_list(
        b"<ListBucketResult><IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        b"<Contents><Key>100%25+1&amp;</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    assert page.object_info[0].key == "100%25+1&"
    assert token is None, "the list is not truncated, whatever else it says"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<ListBucketResult>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>k</Key><Size>many</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"\xff\xfe\x00",
    ],
)
def test_refuses_what_is_no_list(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_list(body)


def test_entities_do_not_expand_without_end() -> None:
    bomb = b'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 10) for level in range(12)
    )
    with pytest.raises(ProtocolError):
        parse_fields(bomb + b"]><ListBucketResult><Name>&l;</Name></ListBucketResult>")


def test_entities_do_not_reach_outside() -> None:
    body = b'<!DOCTYPE l [<!ENTITY f SYSTEM "file:///etc/passwd">]><Error><Code>&f;</Code></Error>'
    assert parse_error(body) in (None, {"Code": ""})


def test_reads_an_error() -> None:
    body = b"<?xml version='1.0'?>\n<Error xmlns='x'><Code>NoSuchKey</Code><Message>a &lt; b</Message><Key/></Error>"
    assert parse_error(body) == {"Code": "NoSuchKey", "Message": "a < b", "Key": ""}
    for other in (b"", b"<html>", b"<Error>", b"<Errors><Error/></Errors>", b"<a>&lt;Error</a>", b"\x00<Error/>"):
        assert parse_error(other) is None


@given(st.binary(max_size=80).map(lambda tail: b"<Error>" + tail))
def test_any_bytes_are_an_error_document_or_none(body: bytes) -> None:
    assert parse_error(body) is None or isinstance(parse_error(body), dict)


@given(st.lists(KEY, max_size=5))
def test_keys_to_delete_are_read_as_they_were_written(keys: list[str]) -> None:
    root = ET.fromstring(delete_body(keys))  # noqa: S314  # made here
    assert [element.text for element in root.iterfind("Object/Key")] == keys
    assert root.findtext("Quiet") == "true"


def test_reads_what_could_not_be_deleted() -> None:
    body = (
        b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>a&amp;b</Key>'
        b"<Code>AccessDenied</Code><Message>no</Message></Error><Error/></DeleteResult>"
    )
    assert parse_delete_errors(body) == [DeleteError("a&b", "AccessDenied", "no"), DeleteError("", "", "")]
    assert parse_delete_errors(b"") == []
    with pytest.raises(ProtocolError):
        parse_delete_errors(b"<DeleteResult>")


def test_names_the_parts_of_an_upload() -> None:
    body = complete_body(
        [
            PartResult(1, '"a<b>"', {"crc64nvme": "AAAAAAAAAAA=", "unknown": "x"}),
            PartResult(2, '"c"', {"crc32": "AAAAAA==", "crc32c": "BBBBBB=="}),
        ]
    )
    root = ET.fromstring(body)  # noqa: S314  # made here
    parts = [{child.tag: child.text for child in part} for part in root.iterfind("Part")]
    assert parts == [
        {"PartNumber": "1", "ETag": '"a<b>"', "ChecksumCRC64NVME": "AAAAAAAAAAA="},
        {"PartNumber": "2", "ETag": '"c"', "ChecksumCRC32": "AAAAAA==", "ChecksumCRC32C": "BBBBBB=="},
    ]


UPLOADS = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
  <Upload><Key>a%20b%2B</Key><UploadId>one</UploadId><Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>
  <Upload><Key>a%20b%2B</Key><UploadId>two</UploadId><Initiated>2026-01-02T03:04:06.000Z</Initiated></Upload>
</ListMultipartUploadsResult>"""


def test_a_page_of_uploads_goes_on_after_its_last() -> None:
    uploads, after = parse_uploads(UPLOADS)
    assert uploads == [UploadInfo("a b+", "one", 1767323045), UploadInfo("a b+", "two", 1767323046)]
    assert after == uploads[1]
    last = UPLOADS.replace(b"<IsTruncated>true", b"<IsTruncated>false").replace(
        b"<EncodingType>url</EncodingType>", b""
    )
    uploads, after = parse_uploads(last)
    assert [upload.key for upload in uploads] == ["a%20b%2B"] * 2
    assert after is None


@pytest.mark.parametrize(
    "body",
    [PAGE, b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>", b"<List"],
)
def test_what_is_no_list_of_uploads_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_uploads(body)
