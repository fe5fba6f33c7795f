"""A file for `torch.load` that takes note of where each storage's bytes belong instead of reading them one by one."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch

from s3torch.checkpoint._archive import Archive, Payload
from s3torch.client import GetObjectStream

__all__ = ["DeferredFile", "SurpriseError"]


class SurpriseError(Exception):
    """torch has done something unforeseen: what was deferred must be read the ordinary way."""


@dataclass(slots=True)
class _Filling:
    """Memory that is to be filled."""

    start: int
    view: memoryview
    storage: torch.UntypedStorage | None = None
    """Who owns the memory; None until torch has shown it."""


class DeferredFile:
    """An archive in S3 as `torch.load` sees it.

    For each storage torch reads the local header, which is made up here, then all of the content into memory that it
    has just allocated, and then shows the storage made of that memory to ``map_location``. Here the content is left
    out: `map_location` keeps the storage, so that the memory lives, and `fill` reads everything at once when torch has
    rebuilt all the tensors. Storages that do not stay where they are, on the CPU, are filled before torch goes on.

    Args:
        stream: The object.
        archive: What it holds.
        fill: Fills pieces of memory from offsets of the object.
    """

    def __init__(
        self,
        stream: GetObjectStream,
        archive: Archive,
        fill: Callable[[Iterable[tuple[int, memoryview]]], None],
    ) -> None:
        self._stream = stream
        self._headers: dict[int, Payload] = {payload.header_offset: payload for payload in archive.payloads}
        self._contents: dict[int, Payload] = {payload.offset: payload for payload in archive.payloads if payload.size}
        self._fill = fill
        self._position = 0
        self._noted: list[_Filling] = []
        self._unowned: _Filling | None = None
        self.error: BaseException | None = None
        """What made a read fail; torch raises something else in its place."""

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move and return the new position."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._stream.size
        self._position = min(max(0, offset), self._stream.size)
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Read bytes; raises what `readinto` could not raise."""
        if self.error is not None:
            raise self.error
        self._stream.seek(self._position)
        data = self._stream.read(size)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer, or take note of it."""
        # torch replaces an exception that it gets from here; it comes through from `read`, which is called after a 0.
        if self.error is not None:
            return 0
        try:
            count = self._take(memoryview(buffer))
        except BaseException as error:  # noqa: BLE001  # raised by read() and by the loader
            self.error = error
            return 0
        self._position += count
        return count

    def map_location(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
        """Keep a storage that stays on the CPU until it is filled, and fill any other at once.

        Args:
            storage: The storage whose content torch has just asked for.
            location: Where the storage was when it was saved.

        Returns:
            None: torch is to do what it does by default.
        """
        filling, self._unowned = self._unowned, None
        if filling is None:  # empty, or made without reading
            return None
        if storage.data_ptr() != _address(filling.view):
            raise SurpriseError("the storage's memory is not the one that was read into")
        filling.storage = storage
        if location == "cpu":
            self._noted.append(filling)
        else:
            self._fill([(filling.start, filling.view)])
        return None

    def map_to_cpu(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:  # noqa: ARG002  # torch's
        """Keep a storage on the CPU wherever it was saved, and until it is filled."""
        self.map_location(storage, "cpu")
        return storage

    def fill(self) -> None:
        """Read all that was taken note of; call once torch is done.

        Raises:
            SurpriseError: Some memory was read into that no storage has owned.
            S3Exception: Reading failed.
        """
        if self.error is not None:
            raise self.error
        if self._unowned is not None:
            raise SurpriseError("memory was read into that no storage owns")
        self._fill([(filling.start, filling.view) for filling in self._noted])
        self._noted.clear()

    def _take(self, view: memoryview) -> int:
        if self._unowned is not None:
            raise SurpriseError("torch went on without showing the storage")
        payload = self._headers.get(self._position)
        if payload is not None and view.nbytes == len(payload.header):
            view[:] = payload.header
            return view.nbytes
        payload = self._contents.get(self._position)
        if payload is not None and view.nbytes == payload.size and _is_lent(view):
            self._unowned = _Filling(payload.offset, view)
            return view.nbytes
        self._stream.seek(self._position)
        return self._stream.readinto(view)


def _is_lent(view: memoryview) -> bool:
    """Whether a view shows memory that no Python object exports: only C code makes such."""
    return cast("object", view.obj) is None


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
