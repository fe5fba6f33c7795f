"""Times in headers and lists, to seconds since the epoch."""

from __future__ import annotations

import calendar
import email.utils
from datetime import datetime, timezone

__all__ = ["parse_http_time", "parse_iso_time"]


def parse_http_time(value: bytes | None) -> int:
    """Read an HTTP date (RFC 9110, section 5.6.7); 0 where there is none or it is malformed."""
    parsed = email.utils.parsedate(value.decode("latin-1")) if value else None
    return 0 if parsed is None else calendar.timegm(parsed)


def parse_iso_time(text: str | None) -> int:
    """Read a time as lists write it, such as ``2026-01-02T03:04:05.000Z``; 0 where there is none."""
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp())
