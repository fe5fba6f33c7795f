"""Where to split a listing: keys that promise to halve what is left of a range of keys. Pure.

Keys are ordered by their UTF-8 bytes, which is the order of their code points, so that text is compared as text.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits, hexdigits

__all__ = ["KeyRange", "propose", "remaining", "share_out", "successor"]

_LOWER_HEX = frozenset(hexdigits.lower())
_UPPER_HEX = frozenset(hexdigits.upper())
_ASCII = 0x7F
_STEPS = 17
# Digits in the scale beyond those that the keys of a page have in common.
_PRECISION = 8


@dataclass(slots=True)
class KeyRange:
    """A range of keys that is being listed, page by page, and what its last page told."""

    prefix: str
    """What all keys of the listing begin with."""
    after: str
    """The last key listed so far; before the first page the key that the range begins behind."""
    until: str | None = None
    """The range's last key at most; None where it ends with the prefix's keys."""
    first: str | None = None
    """The first key of the last page; None before the first page."""
    seen: int = 0
    """Keys in the last page."""
    sample: Sequence[str] = ()
    """Some keys of the last page."""
    is_open: bool = True
    """Whether its keys may end long before its end: no key is known to lie behind that."""


def successor(text: str) -> str | None:
    """Return the least text greater than all that begin with ``text``; None if there is none."""
    while text:
        code = ord(text[-1]) + 1
        if 0xD800 <= code <= 0xDFFF:  # surrogates are no characters
            code = 0xE000
        if code <= sys.maxunicode:
            return text[:-1] + chr(code)
        text = text[:-1]
    return None


def remaining(space: KeyRange) -> int:
    """Estimate how many keys are left of a range, as if they lay as densely as in its last page."""
    if space.first is None or not space.seen:
        return 0
    scale = _Scale.of(space)
    place = scale.value(space.after)
    width = max(1, place - scale.value(space.first))
    return space.seen * (scale.end - place) // width


def share_out(spaces: Sequence[KeyRange], slots: int, page: int) -> list[int]:
    """Decide how often to split each range, those that promise most first.

    Args:
        spaces: The ranges.
        slots: Splits at most.
        page: Keys in a page; what is not expected to fill two for each part is not split.

    Returns:
        For each range, a number of splits.
    """
    counts = [0] * len(spaces)
    left = [remaining(space) for space in spaces]
    for _ in range(slots):
        shares = [count // (splits + 1) for count, splits in zip(left, counts, strict=True)]
        best = max(range(len(spaces)), key=shares.__getitem__, default=None)
        if best is None or shares[best] < 2 * page:
            break
        counts[best] += 1
    return counts


def propose(space: KeyRange, count: int) -> list[str]:
    """Name keys that split a range.

    Where it is open how far the keys reach, and those seen have more in common than the range requires, the first
    splits are rungs of a ladder: each ends what shares that much with the last key. One round of requests then tells
    how far up the tree of prefixes there is anything at all, however long the prefixes are. The others are evenly
    spaced on a scale of the characters seen.

    Args:
        space: The range; its first page is known.
        count: How many at most.

    Returns:
        The keys, ascending, greater than the last one listed and less than the range's end.
    """
    if space.first is None or count < 1:
        return []
    base = _common_base(space)
    shared = _common(space.first, space.after)
    rungs: list[str] = []
    if space.is_open and len(shared) - len(base) >= 2:
        rungs = _within(space, [successor(space.after[:size]) for size in range(len(base) + 1, len(shared) + 2)])
        if len(rungs) > count:
            return [rungs[place * (len(rungs) - 1) // max(1, count - 1)] for place in range(count)]
    count -= len(rungs)
    scale = _Scale.of(space)
    place = scale.value(space.after)
    # The page that is on its way is not worth a second request.
    place = min(place + max(1, place - scale.value(space.first)), (place + scale.end) // 2)
    steps = [place + (scale.end - place) * step // (count + 1) for step in range(1, count + 1)]
    return _within(space, [*rungs, *(scale.text(step) for step in steps)])


def _within(space: KeyRange, keys: Sequence[str | None]) -> list[str]:
    end = space.until
    return sorted({key for key in keys if key is not None and space.after < key and (end is None or key < end)})


def _common(one: str, other: str) -> str:
    size = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if size is None else size]


def _common_base(space: KeyRange) -> str:
    """Return what all keys left in a range begin with."""
    if space.until is None:
        return space.prefix
    common = _common(space.after, space.until)
    subtree = space.after[: len(common) + 1]
    # A range that ends where a prefix's keys end has that prefix in common.
    return subtree if successor(subtree) == space.until else common


@dataclass(frozen=True, slots=True)
class _Scale:
    """Keys with a common beginning as numbers: each character a digit, by its rank among the characters seen."""

    base: str
    symbols: Sequence[str]
    length: int
    end: int
    """The number of the range's end."""

    @classmethod
    def of(cls, space: KeyRange) -> _Scale:
        base = _common_base(space)
        symbols = _symbols(space, len(base))
        shared = len(_common(space.first or space.after, space.after)) - len(base)
        length = max(0, shared) + _PRECISION
        whole = cls(base, symbols, length, (len(symbols) + 1) ** length)
        if space.until is None or successor(base) == space.until:
            return whole
        return cls(base, symbols, length, whole.value(space.until))

    def value(self, key: str) -> int:
        """Return a key's number; keys between two that can be told apart have the lower one's."""
        if not key.startswith(self.base):
            return 0 if key < self.base else self.end
        radix, symbols = len(self.symbols) + 1, self.symbols
        number = 0
        tail = key[len(self.base) : len(self.base) + self.length]
        for place, symbol in enumerate(tail):
            rank = bisect_left(symbols, symbol)
            if rank == len(symbols) or symbols[rank] != symbol:
                return (number * radix + rank + 1) * self._power(place + 1) - 1
            number = number * radix + rank + 1
        return number * self._power(len(tail))

    def _power(self, places: int) -> int:
        """Return what a digit counts for at the end of so many places."""
        power: int = (len(self.symbols) + 1) ** (self.length - places)
        return power

    def text(self, number: int) -> str:
        """Return a key of about that number."""
        radix = len(self.symbols) + 1
        ranks = []
        for _ in range(self.length):
            number, rank = divmod(number, radix)
            ranks.append(rank)
        made = []
        for rank in reversed(ranks):
            if not rank:
                break
            made.append(self.symbols[rank - 1])
        return self.base + "".join(made)


def _symbols(space: KeyRange, start: int) -> Sequence[str]:
    """Return the characters to expect behind the common beginning: those seen, and what belongs with them."""
    seen = set("".join(key[start:] for key in space.sample))
    if seen & set(digits):
        seen |= set(digits)
    for letters, hexadecimal in ((ascii_lowercase, _LOWER_HEX), (ascii_uppercase, _UPPER_HEX)):
        found = seen & set(letters)
        if found:
            seen |= hexadecimal & set(letters) if found <= hexadecimal else set(letters)
    here = ord(space.after[start : start + 1] or "a")
    if here > _ASCII:
        # Scripts have too many characters to be guessed from a few: steps that double find where they end.
        codes = (here + 2**step for step in range(_STEPS))
        seen |= {chr(code) for code in codes if code <= sys.maxunicode and not 0xD800 <= code <= 0xDFFF}
    return sorted(seen)
