"""Signatures: the published examples, and botocore's signer as the oracle."""

from __future__ import annotations

import calendar
import hashlib
from datetime import datetime, timezone
from urllib.parse import parse_qsl, unquote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client.direct.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    Signer,
    encode_key,
    encode_query,
)

# The keys and the time of "Signature Calculations for the Authorization Header", Amazon S3 API reference.
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MIDNIGHT = calendar.timegm((2013, 5, 24, 0, 0, 0))
HOST = ("host", "examplebucket.s3.amazonaws.com")


def fields_of(lines: str) -> dict[str, str]:
    assert lines.endswith("\r\n")
    pairs = [line.split(": ", 1) for line in lines[:-2].split("\r\n")]
    fields = {pair[0]: pair[1] for pair in pairs}
    assert len(fields) == len(pairs)
    return fields


def signature_of(lines: str) -> str:
    return fields_of(lines)["Authorization"].rpartition("Signature=")[2]


def test_published_example_get_object() -> None:
    lines = Signer().sign(
        EXAMPLE, "us-east-1", "GET", "/test.txt", "", [HOST, ("range", "bytes=0-9")], EMPTY_SHA256, MIDNIGHT
    )
    assert fields_of(lines) == {
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    }


def test_published_example_put_object() -> None:
    lines = Signer().sign(
        EXAMPLE,
        "us-east-1",
        "PUT",
        "/" + encode_key("test$file.text"),
        "",
        [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            HOST,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
        MIDNIGHT,
    )
    assert signature_of(lines) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"


def test_published_example_get_lifecycle() -> None:
    lines = Signer().sign(
        EXAMPLE, "us-east-1", "GET", "/", encode_query([("lifecycle", "")]), [HOST], EMPTY_SHA256, MIDNIGHT
    )
    assert signature_of(lines) == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"


def test_published_example_list_objects() -> None:
    query = encode_query([("prefix", "J"), ("max-keys", "2")])
    assert query == "max-keys=2&prefix=J"
    lines = Signer().sign(EXAMPLE, "us-east-1", "GET", "/", query, [HOST], EMPTY_SHA256, MIDNIGHT)
    assert signature_of(lines) == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"


ANY_TEXT = st.text(max_size=30)  # without surrogates, which UTF-8 cannot say
HEADER_VALUE = st.text([chr(c) for c in range(0x21, 0x7F)], min_size=1, max_size=30)
AMZ_NAMES = ["x-amz-checksum-mode", "x-amz-meta-a", "x-amz-request-payer", "x-amz-storage-class", "x-amz-tagging"]


@settings(max_examples=200, deadline=None)
@given(
    key=ANY_TEXT,
    query=st.lists(st.tuples(st.text(min_size=1, max_size=10), ANY_TEXT), max_size=5, unique_by=lambda pair: pair[0]),
    extra=st.dictionaries(st.sampled_from(AMZ_NAMES), HEADER_VALUE),
    token=st.none() | HEADER_VALUE,
    secret=HEADER_VALUE,
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    is_payload_signed=st.booleans(),
    when=st.integers(0, 4_000_000_000),
    is_tls=st.booleans(),
    host=st.sampled_from(["bucket.s3.eu-central-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9000", "localhost:80"]),
)
def test_signs_as_botocore_does(
    *,
    key: str,
    query: list[tuple[str, str]],
    extra: dict[str, str],
    token: str | None,
    secret: str,
    method: str,
    region: str,
    is_payload_signed: bool,
    when: int,
    is_tls: bool,
    host: str,
) -> None:
    path = "/" + encode_key(key)
    canonical = encode_query(query)
    payload_hash = EMPTY_SHA256 if is_payload_signed else UNSIGNED_PAYLOAD
    ours = Signer().sign(
        Credentials("AKID", secret, token),
        region,
        method,
        path,
        canonical,
        [("host", host), *extra.items()],
        payload_hash,
        when,
    )
    theirs = sign_with_botocore(
        BotocoreCredentials("AKID", secret, token),
        region,
        method,
        f"{'https' if is_tls else 'http'}://{host}{path}" + (f"?{canonical}" if canonical else ""),
        {"host": host, **extra},
        payload_hash,
        when,
    )
    fields = fields_of(ours)
    assert fields["Authorization"].replace(",", ", ") == theirs["Authorization"]
    assert fields["x-amz-date"] == theirs["X-Amz-Date"]
    assert fields["x-amz-content-sha256"] == theirs["X-Amz-Content-SHA256"]
    assert fields.get("x-amz-security-token") == theirs.get("X-Amz-Security-Token")


def sign_with_botocore(
    credentials: BotocoreCredentials,
    region: str,
    method: str,
    url: str,
    headers: dict[str, str],
    payload_hash: str,
    when: int,
) -> dict[str, str]:
    class Signer(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
        """Botocore's signer with the payload's hash given, as its client gives it."""

        def payload(self, request: AWSRequest) -> str:
            return payload_hash

    request = AWSRequest(method, url, headers=headers)
    moment = datetime.fromtimestamp(when, timezone.utc)
    with pytest.MonkeyPatch.context() as patch:
        patch_clock(patch, moment)
        Signer(credentials, "s3", region).add_auth(request)
    return dict(request.headers.items())


def patch_clock(patch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Have botocore believe that it is ``moment``, whichever of its ways to ask the version at hand has."""
    if hasattr(botocore.auth, "get_current_datetime"):
        patch.setattr(botocore.auth, "get_current_datetime", lambda **_: moment.replace(tzinfo=None))
        return

    class Clock:
        @staticmethod
        def utcnow() -> datetime:
            return moment.replace(tzinfo=None)

    class Module:
        datetime = Clock

    patch.setattr(botocore.auth, "datetime", Module)


@given(ANY_TEXT)
def test_encoded_keys_are_what_the_standard_leaves_and_nothing_else(key: str) -> None:
    encoded = encode_key(key)
    assert unquote(encoded, errors="strict") == key
    unreserved = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/%")
    assert set(encoded) <= unreserved
    assert encoded.count("/") == key.count("/")


def test_dots_and_empty_segments_of_keys_are_kept() -> None:
    assert encode_key("a//./../b/") == "a//./../b/"
    assert encode_key("a+b c*~%") == "a%2Bb%20c%2A~%25"


@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), ANY_TEXT), max_size=6, unique_by=lambda pair: pair[0]))
def test_encoded_queries_say_the_same(pairs: list[tuple[str, str]]) -> None:
    encoded = encode_query(pairs)
    assert sorted(parse_qsl(encoded, keep_blank_values=True)) == sorted(pairs)


def test_queries_are_sorted_by_their_encoded_names() -> None:
    assert encode_query([("a-b", "1"), ("a", "2"), ("a1", "3")]) == "a=2&a-b=1&a1=3"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/a", "/b", "/c%20d"]),
            st.sampled_from(["", "x=1"]),
            st.sampled_from([MIDNIGHT, MIDNIGHT + 0.9, MIDNIGHT + 1, MIDNIGHT + 86_400]),
            st.sampled_from([None, "token"]),
            st.sampled_from(["us-east-1", "eu-west-1"]),
            st.sampled_from(["GET", "PUT"]),
            st.sampled_from([EMPTY_SHA256, UNSIGNED_PAYLOAD]),
            st.sampled_from(["s3", "s3express"]),
            st.sampled_from(["one", "two"]),
        ),
        max_size=12,
    )
)
def test_a_signer_that_has_signed_before_signs_as_a_fresh_one(
    requests: list[tuple[str, str, float, str | None, str, str, str, str, str]],
) -> None:
    used = Signer()
    for path, query, when, token, region, method, payload_hash, service, secret in requests:
        credentials = Credentials("AKID", secret, token, service=service)
        arguments = (credentials, region, method, path, query, (HOST,), payload_hash, when)
        assert used.sign(*arguments) == Signer().sign(*arguments)


def test_headers_changed_in_place_are_signed_anew() -> None:
    signer, headers = Signer(), [HOST]
    first = signer.sign(EXAMPLE, "us-east-1", "GET", "/k", "", headers, EMPTY_SHA256, MIDNIGHT)
    headers.append(("x-amz-checksum-mode", "ENABLED"))
    second = signer.sign(EXAMPLE, "us-east-1", "GET", "/k", "", headers, EMPTY_SHA256, MIDNIGHT)
    assert "x-amz-checksum-mode" in second
    assert first != second


def test_session_of_a_directory_bucket_has_a_header_and_a_service_of_its_own() -> None:
    credentials = Credentials("AKID", "secret", "TOKEN", "x-amz-s3session-token", "s3express")
    fields = fields_of(Signer().sign(credentials, "us-east-1", "GET", "/k", "", [HOST], EMPTY_SHA256, MIDNIGHT))
    assert fields["x-amz-s3session-token"] == "TOKEN"
    assert "x-amz-security-token" not in fields
    assert "/us-east-1/s3express/aws4_request" in fields["Authorization"]
    assert "x-amz-s3session-token" in fields["Authorization"]


def test_credentials_do_not_show_in_their_repr() -> None:
    shown = repr(Credentials("AKIDvisible", "hidden-secret", "hidden-token"))
    for part in ("AKIDvisible", "hidden-secret", "hidden-token"):
        assert part not in shown
