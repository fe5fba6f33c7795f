"""Times in headers and lists, to seconds since the epoch."""

from __future__ import annotations

import calendar
import email.utils
from datetime import datetime, timezone

__all__ = ["parse_http_time", "parse_iso_time"]


_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}


def parse_http_time(value: bytes | None) -> int:
    """Read an HTTP date (RFC 9110, section 5.6.7); 0 where there is none or it is malformed."""
    if not value:
        return 0
    try:
        # IMF-fixdate, which is all that servers may send: "Sun, 06 Nov 1994 08:49:37 GMT"
        day, month, year = int(value[5:7]), _MONTHS[value[8:11]], int(value[12:16])
        return calendar.timegm((year, month, day, int(value[17:19]), int(value[20:22]), int(value[23:25])))
    except (KeyError, ValueError):
        parsed = email.utils.parsedate(value.decode("latin-1"))
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
