"""What can happen to the files of a cache, and whether what they hold is right.

The files are known here by their documented form alone: none of the code under test looks after itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from s3torch.harness.faults.cases import CacheFault

__all__ = [
    "Losing",
    "damage",
    "die_at",
    "die_halfway",
    "drafts",
    "entries",
    "etag_of",
    "limit_files",
    "unwritable",
    "wrong_entries",
]

_TAIL = struct.Struct("<8sQQQII")  # magic, first byte, length, the object's size, length of the name, CRC-32
_FEW = 30_000  # bytes: less than any object has


def entries(directory: Path) -> list[Path]:
    """Return the files that hold something, in order."""
    return sorted(directory.glob("*/entries/*/*"))


def drafts(directory: Path) -> list[Path]:
    """Return the files that have no name yet."""
    return sorted(directory.glob("*/drafts/*"))


def damage(directory: Path, fault: CacheFault, chance: random.Random) -> int:
    """Spoil every file, and return how many that are.

    Args:
        directory: The cache's.
        fault: ``flip``, ``cut`` or ``other``.
        chance: Chooses the places.
    """
    files = entries(directory)
    contents = [_content(file) for file in files]
    if fault == "other":
        contents = contents[1:] + contents[:1]
        for file in files:
            for strange in (f"{file.name}-x-y", f"{file.name}-0-5.tmp", "README", "1-2-3"):
                file.with_name(strange).write_bytes(b"strange")
    for file, data in zip(files, contents, strict=True):
        if fault == "flip" and data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif fault == "cut" and data:
            del data[chance.choice([0, chance.randrange(len(data)), len(data) - 1]) :]
        file.write_bytes(data)
    return len(files)


class Losing:
    """Removes files of a cache just before this process opens them to read, every second time.

    Args:
        directory: The cache's.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = f"{directory}{os.sep}"
        self._opened = 0
        self.is_on = True
        """Set to false at the end: a hook stays for the life of its process."""
        self.lost = 0
        """How many went."""
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not self.is_on:
            return
        path, _, flags = arguments
        if (
            isinstance(path, str)
            and path.startswith(self._folder)
            and f"{os.sep}entries{os.sep}" in path
            and isinstance(flags, int)
            and not flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)
        ):
            self._opened += 1
            if self._opened % 2:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108  # a string
                    self.lost += 1


def die_at(moment: int) -> None:
    """Kill this process when it has come to so many steps of writing files: a draft, its time, its name.

    Args:
        moment: How many steps it lives.
    """
    left = moment

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.utime", "os.rename", "os.mkdir"):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            return
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def die_halfway() -> None:
    """Have the system end this process in the middle of a file that is longer than some bytes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FEW, _FEW))


@contextlib.contextmanager
def limit_files() -> Iterator[None]:
    """Let no file of this process grow beyond some bytes: a write stops there, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FEW, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Let nothing be written in a cache, whoever tries: where there was a folder for drafts there is a file."""
    [drafts] = directory.glob("*/drafts")
    away = drafts.with_name("drafts-away")
    drafts.rename(away)
    drafts.write_bytes(b"")
    folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o700)
        drafts.unlink()
        away.rename(drafts)


def wrong_entries(directory: Path, versions: Callable[[str], dict[str, bytes]]) -> list[str]:
    """Return what is wrong with files that say what they hold: bytes that are not those of the version they name.

    Args:
        directory: The cache's.
        versions: Returns all versions of an object by its key: their bytes, by their ETags.
    """
    wrong = []
    for file in entries(directory):
        content = file.read_bytes()
        if len(content) < _TAIL.size:
            continue  # found out by any reader, as are the next ones
        _, start, length, size, name_length, checksum = _TAIL.unpack(content[-_TAIL.size :])
        if not length < len(content) or zlib.crc32(content[length:-4]) != checksum:
            continue
        name = content[-_TAIL.size - name_length : -_TAIL.size].decode()
        _, _, etag, key = name.split("\n", 3)
        known = versions(key)
        data = content[:length]
        if not etag:
            right = data.decode() in {f"{len(each)} {tag}" for tag, each in known.items()}
        else:
            whole = known.get(etag)
            right = whole is not None and len(whole) == size and whole[start : start + length] == data
        if not right:
            wrong.append(f"the cache holds wrong bytes: {length} at {start} of {key}, {etag or 'its last version'}")
    return wrong


def _content(file: Path) -> bytearray:
    try:
        return bytearray(file.read_bytes())
    except FileNotFoundError:  # removed meanwhile
        return bytearray()


def etag_of(data: bytes) -> str:
    """Return the ETag by which stores know what one plain request has written: the MD5 of its bytes."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
