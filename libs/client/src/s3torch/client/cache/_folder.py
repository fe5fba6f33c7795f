"""The files of a cache: finding, writing and removing them. Each is complete under its name, or not there at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s3torch.client.cache._entry import Version, make_trailer
from s3torch.client.cache._files import disk_size, is_in_use, open_private, write_all

__all__ = ["Folder", "Used"]

_SHARD_DIGITS = 3  # 4,096 folders: a million entries are some 250 in each
_OLD_DRAFT_S = 600.0  # a file is written in far less; an older draft is one whose writer has died
_SPAN = re.compile("-([0-9a-f]+)-([0-9a-f]+)")  # what a name has behind the version's digest
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This is a cache of objects that lie in S3, and may be deleted at any time. See https://bford.info/cachedir/
"""


@dataclass(frozen=True, slots=True)
class Used:
    """One file, and when it was last used."""

    path: str
    size: int
    """Bytes of disk."""
    used_at: float
    """Seconds since the epoch, as precise as its files are touched."""


class Folder:
    """The files under one directory.

    Args:
        directory: The directory the user gave; all lies in a folder of its own in it.

    Raises:
        OSError: It cannot be made, or not be written.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "s3torch-cache-1"
        self._drafts = self.root / "drafts"
        self._entries = self.root / "entries"
        self._prefix = f"{self._entries}{os.sep}"
        self._numbers = itertools.count(time.time_ns())
        self.prepare()
        self._sweep_drafts()

    def prepare(self) -> None:
        """Make the folders that are not there, or no longer."""
        for folder in (self.root, self._drafts, self._entries):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tag = self.root / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text(_TAG)

    def path(self, version: Version, span: tuple[int, int] | None) -> str:
        """Return where an entry lies.

        Args:
            version: Whose bytes it holds.
            span: First byte and byte after the last; None for the whole object.
        """
        digest = version.digest
        whole = f"{self._prefix}{digest[:_SHARD_DIGITS]}{os.sep}{digest}"
        return whole if span is None else f"{whole}-{span[0]:x}-{span[1]:x}"

    def spans(self, version: Version) -> list[tuple[int, int]]:
        """Return the spans that are there of a version, in order; whole objects are none."""
        digest = version.digest
        try:
            names = os.listdir(f"{self._prefix}{digest[:_SHARD_DIGITS]}")  # noqa: PTH208  # names alone, and fast
        except OSError:
            return []
        # What others have put there, such as a copy under another name, is none of ours.
        matches = (_SPAN.fullmatch(name, len(digest)) for name in names if name.startswith(digest))
        return sorted((int(match[1], 16), int(match[2], 16)) for match in matches if match)

    def write(self, version: Version, span: tuple[int, int] | None, size: int, data: memoryview, now: float) -> int:
        """Make an entry, or replace it.

        Args:
            version: Whose bytes.
            span: As in `path`.
            size: The object's whole size.
            data: The bytes, format ``B``, contiguous.
            now: Seconds since the epoch, by the clock that judges how long it has not been used.

        Returns:
            Bytes of disk that came in by it.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        path = self.path(version, span)
        draft = f"{self._drafts}{os.sep}{os.getpid()}-{next(self._numbers):x}"
        file = open_private(draft, "xb")  # if that fails, the draft of this name is not ours to remove
        try:
            with file:
                trailer = make_trailer(version, 0 if span is None else span[0], size, data)
                write_all(file, [data, memoryview(trailer)])
            os.utime(draft, (now, now))
            came = disk_size(os.stat(draft))  # noqa: PTH116  # paths are strings where every microsecond counts
            with contextlib.suppress(FileNotFoundError):
                came -= disk_size(os.stat(path))  # noqa: PTH116  # likewise
            try:
                os.replace(draft, path)  # noqa: PTH105  # likewise
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120  # likewise
                os.replace(draft, path)  # noqa: PTH105  # likewise
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)  # noqa: PTH108  # likewise
            if isinstance(error, OSError) and is_in_use(error):
                return 0  # somebody reads what is there under this name: it stays
            raise
        return came

    def remove(self, path: str) -> int:
        """Remove an entry; return the bytes of disk that went, 0 if another process was faster."""
        try:
            size = disk_size(os.stat(path))  # noqa: PTH116  # as above
            os.unlink(path)  # noqa: PTH108  # as above
        except OSError:
            return 0
        return size

    def free(self) -> int:
        """Return how many bytes the file system has free for us."""
        return shutil.disk_usage(self.root).free

    def sample(self, least: int, choose: random.Random) -> list[Used]:
        """Return the entries of some shards, chosen at random.

        Args:
            least: Entries wanted; fewer only where there are not so many.
            choose: Chooses the shards.
        """
        shards = os.listdir(self._entries)  # noqa: PTH208  # names alone
        choose.shuffle(shards)
        found: list[Used] = []
        for shard in shards:
            found += self._scan(shard)
            if len(found) >= least:
                break
        return found

    def measure(self) -> int:
        """Return the bytes of disk that all entries take; looks at each."""
        self._sweep_drafts()
        return sum(used.size for shard in os.listdir(self._entries) for used in self._scan(shard))  # noqa: PTH208

    def _scan(self, shard: str) -> Iterator[Used]:
        try:
            entries = os.scandir(f"{self._prefix}{shard}")
        except OSError:
            return
        with entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield Used(entry.path, disk_size(status), status.st_mtime)

    def _sweep_drafts(self) -> None:
        """Remove what writers that died have left."""
        oldest = time.time() - _OLD_DRAFT_S
        with os.scandir(self._drafts) as drafts:
            for draft in drafts:
                with contextlib.suppress(OSError):
                    if draft.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(draft.path)  # noqa: PTH108  # as above
