"""Signature Version 4 for S3 in the Authorization header.

Source: Amazon's "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk (AWS
Signature Version 4)". S3 signs the path as it is sent, encoded once and not normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

__all__ = ["EMPTY_SHA256", "UNSIGNED_PAYLOAD", "Credentials", "Signer", "encode_key", "encode_query"]

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_UNRESERVED = re.compile(r"[A-Za-z0-9/._~-]*")
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a request. Neither printed nor pickled anywhere."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    token_header: str = "x-amz-security-token"  # noqa: S105  # a header's name
    """Where the token goes; S3 Express sessions have a header of their own."""
    service: str = "s3"
    """Service name in the scope."""


def encode_key(key: str) -> str:
    """Percent-encode a key for the path: every byte but unreserved characters (RFC 3986) and the slash."""
    return key if _UNRESERVED.fullmatch(key) else quote(key, safe="/~")


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Encode query parameters in canonical form: sorted, percent-encoded, each with ``=``."""
    # By name, then value: sorting the joined text would put "a-b=" before "a=".
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in pairs)
    return "&".join([f"{name}={value}" for name, value in encoded])


@dataclass(frozen=True, slots=True)
class _Template:
    """What the signatures of one second, scope and set of headers have in common."""

    key: bytes
    """The signing key."""
    canonical: str
    """The canonical request behind its path."""
    to_sign: str
    """The string to sign before its last line."""
    lines: str
    """The header lines before the signature."""


class Signer:
    """Signs requests, keeping what consecutive ones share: a window of GETs differs in nothing but the path.

    Not for use by two threads at once.
    """

    __slots__ = ("_key", "_key_of", "_template", "_template_of")

    def __init__(self) -> None:
        self._key_of: tuple[str, str, str, str] | None = None
        self._key = b""
        self._template_of: object = None
        self._template = _Template(b"", "", "", "")

    def sign(
        self,
        credentials: Credentials,
        region: str,
        method: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        payload_hash: str,
        now: float,
    ) -> str:
        """Return the header lines that authorise a request.

        Args:
            credentials: Who asks.
            region: Region of the scope.
            method: HTTP method.
            path: Encoded path, as sent.
            query: Encoded query in canonical form, without ``?``.
            headers: Further headers to sign, names in lower case: ``host`` and every ``x-amz-*`` that is sent.
            payload_hash: SHA-256 of the body in hexadecimal, or ``UNSIGNED-PAYLOAD``.
            now: Time of signing, in seconds since the epoch.

        Returns:
            ``x-amz-date``, ``x-amz-content-sha256``, the token's and the ``Authorization`` line, each ended by CRLF.
        """
        headers = tuple(headers)  # a list might be changed before the next call
        template_of = (int(now), credentials, region, query, headers, payload_hash)
        if template_of != self._template_of:
            self._template = self._make_template(int(now), credentials, region, query, headers, payload_hash)
            self._template_of = template_of
        template = self._template
        digest = hashlib.sha256(f"{method}\n{path}{template.canonical}".encode()).hexdigest()
        signature = hmac.digest(template.key, f"{template.to_sign}{digest}".encode(), "sha256").hex()
        return f"{template.lines}{signature}\r\n"

    def _make_template(
        self,
        second: int,
        credentials: Credentials,
        region: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        payload_hash: str,
    ) -> _Template:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date, service = stamp[:8], credentials.service
        own = [("x-amz-content-sha256", payload_hash), ("x-amz-date", stamp)]
        if credentials.token is not None:
            own.append((credentials.token_header, credentials.token))
        everything = sorted([*headers, *own])
        names = ";".join([name for name, _ in everything])
        lines = "".join([f"{name}:{value}\n" for name, value in everything])
        scope = f"{date}/{region}/{service}/aws4_request"
        return _Template(
            self._signing_key(credentials.secret_key, date, region, service),
            f"\n{query}\n{lines}\n{names}\n{payload_hash}",
            f"{_ALGORITHM}\n{stamp}\n{scope}\n",
            "".join([f"{name}: {value}\r\n" for name, value in own])
            + f"Authorization: {_ALGORITHM} Credential={credentials.access_key}/{scope},"
            f"SignedHeaders={names},Signature=",
        )

    def _signing_key(self, secret: str, date: str, region: str, service: str) -> bytes:
        key_of = (secret, date, region, service)
        if key_of != self._key_of:
            key = f"AWS4{secret}".encode()
            for text in (date, region, service, "aws4_request"):
                key = hmac.digest(key, text.encode(), "sha256")
            self._key_of, self._key = key_of, key
        return self._key
