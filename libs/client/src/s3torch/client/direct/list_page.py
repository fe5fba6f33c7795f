"""Pages of ListObjectsV2 into columns, fast where their form is plain, and as `parse_list` reads them in any case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from s3torch.client.direct.times import parse_iso_time
from s3torch.client.direct.xml import parse_list, parse_list_frame
from s3torch.client.listing import ListPage

__all__ = ["parse_page"]

_ENTRY: Final = b"<Contents>"
_ENTRY_END: Final = b"</Contents>"
_MARK: Final = "Entries"
_MOST_FORMS = 16
# Before the entries only what is read the same in any encoding, and nothing that could define an entity.
_PLAIN_HEAD = re.compile(
    rb"(?:<\?xml version=(?:'1\.0'|\"1\.0\")(?: encoding=(?:'[uU][tT][fF]-8'|\"[uU][tT][fF]-8\"))? *\?>)?"
    rb"[ \t\r\n]*<ListBucketResult[ \t\r\n>]"
)
# Characters that mean themselves: neither markup nor references nor controls (XML 1.0, sections 2.4 and 2.11).
_TEXT: Final = rb"[ -%'-;=?-~]*"
_UNQUOTED: Final = rb"[ !#-%'-;=?-~]*"
_SPACE: Final = rb"[ \t\r\n]*"
_MINUTES: Final = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d):([0-5]\d)(?:\.\d{3})?Z"
_QUOTES: Final = (b"&quot;", b"&#34;", b'"')
_OWNER: Final = rb"<Owner>(?:%b(?:<ID>%b</ID>|<DisplayName>%b</DisplayName>))*%b</Owner>" % (
    _SPACE,
    _TEXT,
    _TEXT,
    _SPACE,
)
_CHILD = re.compile(rb"%b(?:<(?P<tag>[A-Za-z0-9]+)>(?P<text>[^<]*)</(?P=tag)>|%b)" % (_SPACE, _OWNER))
_NEEDED: Final = frozenset({b"Key", b"LastModified", b"ETag", b"Size"})


def parse_page(body: bytes) -> ListPage:
    """Read a page of ListObjectsV2.

    Entries of plain form -- no references but for quotes, no attributes, nothing but ASCII -- are matched by a pattern
    that is learnt from the first of each form. The rest of the document, with one element in their place, is read by
    the XML parser. Whatever is not of that form goes to it as a whole.

    Args:
        body: The response's body.

    Returns:
        The page; it is what `parse_list` makes of it.

    Raises:
        ProtocolError: It is no such page, or an impossible one.
    """
    page = _parse_plain(body)
    return ListPage.of(*parse_list(body)) if page is None else page


@dataclass(frozen=True, slots=True)
class _Form:
    """How entries are written: a pattern, and which of its groups is what."""

    pattern: re.Pattern[bytes]
    groups: dict[bytes, int]
    is_quoted: bool
    """The ETag's group is what lies between its quotes."""
    has_minutes: bool
    """There are two groups for the time: up to the minute, and the seconds."""


@dataclass(slots=True)
class _Columns:
    keys: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)

    def add(self, form: _Form, found: Sequence[tuple[bytes, ...]]) -> None:
        """Append entries of one form."""
        groups, columns = form.groups, list(zip(*found, strict=True))
        self.keys += columns[groups[b"Key"]]
        self.sizes += map(int, columns[groups[b"Size"]])
        tags = "\n".join(map(bytes.decode, columns[groups[b"ETag"]]))
        self.etags += ('"' + tags.replace("\n", '"\n"') + '"' if form.is_quoted else tags).split("\n")
        at = groups[b"LastModified"]
        if form.has_minutes:
            self.times += map(_seconds, columns[at], columns[at + 1])
        else:
            self.times += [parse_iso_time(text.decode()) for text in columns[at]]
        if b"StorageClass" in groups:
            self.classes += map(bytes.decode, columns[groups[b"StorageClass"]])
        else:
            self.classes += [None] * len(found)


def _parse_plain(body: bytes) -> ListPage | None:
    """Read a page of plain form; None if it is not."""
    first = body.find(_ENTRY)
    if first < 0 or _PLAIN_HEAD.match(body) is None:
        return None
    rest = body[first:]
    columns = _Columns()
    for _ in range(_MOST_FORMS):
        form = _learn(rest[len(_ENTRY) : rest.find(_ENTRY_END)])
        found = [] if form is None else form.pattern.findall(rest)
        rest = found.pop()[-1] if found and found[-1][-1] else b""
        if form is None or not found:
            return None
        columns.add(form, found)
        if not rest.startswith(_ENTRY):
            break
    if b"<Contents" in rest:  # further away, of another form, or of too many forms
        return None
    frame = parse_list_frame(b"%b<%b/>%b" % (body[:first], _MARK.encode(), rest), _MARK)
    if frame is None:
        return None
    return ListPage(
        _decode(columns.keys) if frame.is_encoded else columns.keys,
        columns.sizes,
        columns.etags,
        columns.times,
        columns.classes,
        common_prefixes=frame.common_prefixes,
        token=frame.token,
    )


def _learn(entry: bytes) -> _Form | None:
    """Learn the form of entries from the inside of one; None where it is not plain."""
    children: list[tuple[bytes, bytes]] = []
    at = 0
    while (match := _CHILD.match(entry, at)) is not None:
        tag, text = match["tag"] or b"Owner", match["text"] or b""
        style = b""
        if tag == b"ETag":
            style = next((quote for quote in _QUOTES if text.startswith(quote) and text.endswith(quote)), b"")
        elif tag == b"LastModified" and re.fullmatch(_MINUTES, text):
            style = b"minutes"
        children.append((tag, style))
        at = match.end()
    return _form(tuple(children)) if not entry[at:].strip(b" \t\r\n") else None


@lru_cache(maxsize=64)
def _form(children: tuple[tuple[bytes, bytes], ...]) -> _Form | None:
    """Make the pattern for entries that have these elements, each with how its text is written."""
    groups: dict[bytes, int] = {}
    parts: list[bytes] = []
    count = 0
    for tag, style in children:
        if tag == b"RestoreStatus" or tag in groups:
            return None
        if tag not in _NEEDED and tag != b"StorageClass":
            inside = _OWNER if tag == b"Owner" else b"<%b>%b</%b>" % (tag, _TEXT, tag)
            parts.append(b"(?:%b%b)*" % (_SPACE, inside))
            continue
        groups[tag] = count
        count += 1
        text = b"(%b)" % _TEXT
        if tag == b"Size":
            text = rb"(\d{1,19})"
        elif tag == b"ETag" and style:
            text = b"%b(%b)%b" % (style, _UNQUOTED, style)
        elif style:
            text = _MINUTES
            count += 1
        parts.append(b"%b<%b>%b</%b>" % (_SPACE, tag, text, tag))
    if not groups.keys() >= _NEEDED:
        return None
    # What follows the last entry of the form is caught by the second half, so that none between them is passed over.
    pattern = b"%b%b%b%b%b|((?s:.+))" % (_ENTRY, b"".join(parts), _SPACE, _ENTRY_END, _SPACE)
    styles = dict(children)
    return _Form(re.compile(pattern), groups, bool(styles[b"ETag"]), bool(styles[b"LastModified"]))


@lru_cache(maxsize=4096)
def _minute(text: bytes) -> int:
    return parse_iso_time(f"{text.decode()}:00Z")


def _seconds(minute: bytes, second: bytes) -> int:
    start = _minute(minute)
    return start + int(second) if start else parse_iso_time(f"{minute.decode()}:{second.decode()}Z")


def _decode(keys: list[bytes]) -> list[bytes]:
    """Undo the URL encoding of keys."""
    joined = b"\n".join(keys)
    if b"+" in joined:
        keys = joined.replace(b"+", b" ").split(b"\n")
    if b"%" in joined:
        keys = [unquote_to_bytes(key) if b"%" in key else key for key in keys]
        try:
            b"\n".join(keys).decode()
        except UnicodeDecodeError:
            keys = [key.decode(errors="replace").encode() for key in keys]
    return keys
