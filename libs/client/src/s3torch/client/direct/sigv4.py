"""Signature Version 4 for S3 in the Authorization header.

Source: Amazon's "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk (AWS
Signature Version 4)". S3 signs the path as it is sent, encoded once and not normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

__all__ = ["EMPTY_SHA256", "UNSIGNED_PAYLOAD", "Credentials", "Signer", "encode_key", "encode_query"]

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a request. Neither printed nor pickled anywhere."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    token_header: str = "x-amz-security-token"
    """Where the token goes; S3 Express sessions have a header of their own."""
    service: str = "s3"
    """Service name in the scope."""


def encode_key(key: str) -> str:
    """Percent-encode a key for the path: every byte but unreserved characters (RFC 3986) and the slash."""
    return quote(key, safe="/~")


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Encode query parameters in canonical form: sorted, percent-encoded, each with ``=``."""
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs))


class Signer:
    """Signs requests for one scope after the other, with the signing key and date kept for as long as they hold."""

    __slots__ = ("_date", "_key", "_key_of", "_second", "_stamp")

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""
        self._date = ""
        self._key_of: tuple[str, str, str, str] | None = None
        self._key = b""

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
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._date = self._stamp[:8]
            self._second = second
        stamp, date, service = self._stamp, self._date, credentials.service
        key_of = (credentials.secret_key, date, region, service)
        if key_of != self._key_of:
            key = f"AWS4{credentials.secret_key}".encode()
            for text in (date, region, service, "aws4_request"):
                key = hmac.digest(key, text.encode(), "sha256")
            self._key_of, self._key = key_of, key
        own = [("x-amz-content-sha256", payload_hash), ("x-amz-date", stamp)]
        if credentials.token is not None:
            own.append((credentials.token_header, credentials.token))
        everything = sorted([*headers, *own])
        names = ";".join([name for name, _ in everything])
        lines = "".join([f"{name}:{value}\n" for name, value in everything])
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}"
        scope = f"{date}/{region}/{service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(self._key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
        sent = "".join([f"{name}: {value}\r\n" for name, value in own])
        return (
            f"{sent}Authorization: {_ALGORITHM} Credential={credentials.access_key}/{scope},"
            f"SignedHeaders={names},Signature={signature}\r\n"
        )
