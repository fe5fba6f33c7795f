"""Upload options as headers."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import PutOptions
from s3torch.client.direct.upload_headers import option_headers


def test_no_options_are_no_headers() -> None:
    assert option_headers(PutOptions()) == ([], "")


def test_every_option_has_its_header() -> None:
    options = PutOptions(
        storage_class="STANDARD_IA",
        content_type="text/plain; charset=utf-8",
        metadata={"Epoch": "7", "note": " padded "},
        tags={"a b": "c&d", "e": ""},
        server_side_encryption="aws:kms",
        kms_key_id="arn:aws:kms:us-east-1:1:key/k",
        acl="bucket-owner-full-control",
        if_none_match=True,
    )
    amz, lines = option_headers(options)
    assert dict(amz) == {
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:1:key/k",
        "x-amz-acl": "bucket-owner-full-control",
        "x-amz-tagging": "a+b=c%26d&e=",
        "x-amz-meta-epoch": "7",
        "x-amz-meta-note": "padded",
    }
    assert len(amz) == 7
    assert lines == "Content-Type: text/plain; charset=utf-8\r\nIf-None-Match: *\r\n"


def test_a_condition_is_left_to_the_request_it_belongs_to() -> None:
    assert option_headers(PutOptions(if_none_match=True), with_condition=False) == ([], "")


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4))
def test_tags_are_read_as_they_were_written(tags: dict[str, str]) -> None:
    amz, _ = option_headers(PutOptions(tags=tags))
    assert dict(parse_qsl(dict(amz).get("x-amz-tagging", ""), keep_blank_values=True)) == tags


@pytest.mark.parametrize(
    "options",
    [
        PutOptions(storage_class="A\r\nX-Evil: 1"),
        PutOptions(content_type="text/plain\n"),
        PutOptions(metadata={"a": "b\r\nc: d"}),
        PutOptions(metadata={"a": "é"}),
        PutOptions(metadata={"a": "\x00"}),
        PutOptions(metadata={"a b": "c"}),
        PutOptions(metadata={"a:": "c"}),
        PutOptions(metadata={"a\r\nb": "c"}),
        PutOptions(metadata={"é": "c"}),
        PutOptions(metadata={"": "c"}),
        PutOptions(metadata={"same": "1", "SAME": "2"}),
        PutOptions(kms_key_id="\x7f"),
        PutOptions(acl="private\r"),
    ],
)
def test_what_cannot_stand_in_a_header_is_refused(options: PutOptions) -> None:
    with pytest.raises(ValueError):
        option_headers(options)
