"""Names of shards in brace notation, as the field writes them: ``train-{000..127}.tar``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

__all__ = ["expand_braces"]

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
_GROUP = re.compile(r"\{([^{}]*)\}")


def expand_braces(text: str) -> Iterator[str]:
    """Write out ``{first..last}`` and ``{one,two}``, several of them in every combination.

    Args:
        text: Such as ``s3://bucket/train-{000..127}.tar``. Numbers are padded as the first is; ``{0..10..5}`` takes
            every fifth. Braces within braces are not read.

    Yields:
        Each name, the last braces varying fastest; a text without braces as it is.

    Raises:
        ValueError: Braces do not match, or hold neither a range nor a list.
    """
    pieces = _GROUP.split(text)
    choices = [_choices(piece, text) if index % 2 else (piece,) for index, piece in enumerate(pieces)]
    if any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise ValueError(f"braces that do not match, or lie within each other: {text!r}")
    return map("".join, product(*choices))


def _choices(group: str, text: str) -> tuple[str, ...]:
    found = _RANGE.fullmatch(group)
    if found is None:
        if "," not in group:
            raise ValueError(f"expected {{first..last}} or {{one,two}}, got {{{group}}} in {text!r}")
        return tuple(group.split(","))
    first, last, step = found[1], found[2], int(found[3] or 1)
    if int(last) < int(first) or not step:
        raise ValueError(f"the range {{{group}}} in {text!r} is empty: write the smaller number first")
    return tuple(str(number).zfill(len(first)) for number in range(int(first), int(last) + 1, step))
