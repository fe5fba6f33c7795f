"""Entity tags in columns: nearly all are an MD5 in hexadecimal digits, or that with a number of parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3torch.datasets.index._shared import Array

__all__ = ["ETags", "format_etag", "read_etags"]

# As S3 writes them: "An ETag of a multipart upload ends in a dash and the number of parts" (API reference, Object).
_REGULAR = re.compile(r'"([0-9a-f]{32})(?:-([1-9][0-9]{0,8}))?"')
_QUOTED = 34  # characters of a plain one
_MD5 = 16


@dataclass(frozen=True, slots=True)
class ETags:
    """The entity tags of a run of objects."""

    digests: Array
    """16 bytes each; zeros where it has another form."""
    parts: Array
    """The numbers behind the dash, in some type of integers; 0 where there is none."""
    odd_places: npt.NDArray[np.int64]
    """Which have another form, such as none at all: their places in the run, ascending."""
    odd: Sequence[str]
    """Those."""


def read_etags(etags: Sequence[str]) -> ETags:
    """Take entity tags apart.

    Args:
        etags: As stores send them, with their quotes.
    """
    count = len(etags)
    plain = _read_plain("".join(etags), count)
    if plain is not None:
        return ETags(plain, np.zeros(count, np.uint8), np.zeros(0, np.int64), ())
    digests = np.zeros((count, _MD5), np.uint8)
    parts = np.zeros(count, np.uint32)
    odd: list[int] = []
    for place, etag in enumerate(etags):
        match = _REGULAR.fullmatch(etag)
        if match is None:
            odd.append(place)
        else:
            digests[place] = np.frombuffer(bytes.fromhex(match[1]), np.uint8)
            parts[place] = int(match[2] or 0)
    return ETags(digests, parts, np.array(odd, np.int64), [etags[place] for place in odd])


def format_etag(digest: str, parts: int) -> str:
    """Put a regular entity tag together from its digits and the number of its parts."""
    return f'"{digest}-{parts}"' if parts else f'"{digest}"'


def _read_plain(text: str, count: int) -> Array | None:
    """Read the digests of tags that are all plain; None if one is not."""
    if len(text) != _QUOTED * count or not text.isascii():
        return None
    rows = np.frombuffer(text.encode(), np.uint8).reshape(count, _QUOTED)
    digits = rows[:, 1:-1]
    is_digit = ((digits >= ord("0")) & (digits <= ord("9"))) | ((digits >= ord("a")) & (digits <= ord("f")))
    if not (is_digit.all() and (rows[:, 0] == ord('"')).all() and (rows[:, -1] == ord('"')).all()):
        return None
    return np.frombuffer(bytes.fromhex(digits.tobytes().decode()), np.uint8).reshape(count, _MD5)
