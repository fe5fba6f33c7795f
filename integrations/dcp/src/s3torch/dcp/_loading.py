"""Carrying out a load plan: only the bytes it asks for, each once, from all files at once, within a bound of memory."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlanner, ReadItem

from s3torch.client import GetRequest, InvalidRangeError, ObjectNotFoundError, S3Client
from s3torch.client.scatter import Piece, read_pieces
from s3torch.dcp._folder import Folder
from s3torch.dcp._heads import HEAD_SIZE, read_head
from s3torch.dcp._items import Item, find_items, noted_tensor, wanted_bytes
from s3torch.dcp._load_plan import Box, StoredTensor, select
from s3torch.dcp._placing import place
from s3torch.dcp.errors import CheckpointError, CorruptCheckpointError

__all__ = ["Fill", "Loading", "Transform", "explained"]

Transform = Callable[[ReadItem, Sequence[str], IO[bytes]], IO[bytes]]
"""Undoes what the bytes of an item went through when they were saved, named by descriptors."""

_KIB = 1024
# Items up to this size come whole, and those up to the other where half of the bytes are wanted: the round trip for
# the head would cost more.
_TINY = 64 * _KIB
_SMALL = 512 * _KIB
_LONGEST = 8 * _KIB * _KIB
_SHORTEST = 256 * _KIB


@dataclass(frozen=True, slots=True)
class Loading:
    """Where to load from, and with how much memory."""

    client: S3Client
    """Where to read."""
    folder: Folder
    """The checkpoint."""
    metadata: Metadata | None
    """What it says of itself."""
    storage: Mapping[Any, Any]
    """Where its items are stored."""
    transform: Transform
    """Undoes what the items went through when they were saved."""
    memory: int
    """Bytes that may be held beside the tensors that are loaded into; one item is always allowed."""

    def run(self, reads: Sequence[ReadItem], planner: LoadPlanner) -> None:
        """Load the items of a plan and hand them to its planner, in the calling thread.

        Args:
            reads: The plan's items.
            planner: Whose tensors are filled. Each is committed after all of its bytes have come.

        Raises:
            CorruptCheckpointError: The data are not what the metadata says.
            CheckpointError: A tensor has another shape than the one it is to be loaded into.
            S3Exception: The store failed. Tensors may be half filled then, and nothing touches them any more.
        """
        items = find_items(reads, self.storage, self.folder)
        stored = self.locate(items)
        owned = _owned_storages(planner)
        wave = _Wave()
        devices: set[torch.device] = set()
        for item, where in zip(items, stored, strict=True):
            target = None if item.is_bytes else self.resolve_read(item.read, planner)
            fill = Fill(item, where, target)
            held = 2 * fill.held  # the bytes as they come, and what is made of them
            if target is not None:
                if _storage_of(target) not in owned:
                    held += target.nbytes
                _synchronize(target.device, devices)
            if wave.fills and wave.held + held > self.memory // 2:
                self._finish(wave, planner)
                wave = _Wave()
            wave.held += held
            wave.fills.append(fill)
        self._finish(wave, planner)

    def locate(self, items: Sequence[Item]) -> list[StoredTensor | None]:
        """Find out where the elements of tensors lie.

        Args:
            items: Tensors and others.

        Returns:
            For each item the stored tensor; None for one that has to be read whole.
        """
        found: dict[tuple[str, int], StoredTensor | None] = {}
        unknown: dict[tuple[str, int], Item] = {}
        wanted: Counter[tuple[str, int]] = Counter()
        for item in items:
            place_of = (item.info.relative_path, item.info.offset)
            if item.is_bytes or item.transforms:
                found[place_of] = None
                continue
            found[place_of] = noted_tensor(item, self.metadata)
            if found[place_of] is None:
                unknown[place_of] = item
                wanted[place_of] += wanted_bytes(item, self.metadata)
        sources: dict[str, list[Piece]] = {}
        for place_of, item in unknown.items():
            if item.info.length <= max(_TINY, min(_SMALL, 2 * wanted[place_of])):
                continue

            def learn(head: memoryview, place_of: tuple[str, int] = place_of, item: Item = item) -> None:
                found[place_of] = read_head(head, item.info.offset, item.info.length)

            start = item.info.offset
            sources.setdefault(item.info.relative_path, []).append(Piece(start, start + HEAD_SIZE, learn))
        self._read(sources)
        return [found[item.info.relative_path, item.info.offset] for item in items]

    def fetch(self, fills: Sequence[Fill], held: int = 0) -> None:
        """Fill tensors, and the buffers of what is read whole.

        Args:
            fills: What is read, and where it goes.
            held: Bytes of the memory that are taken already.
        """
        longest = max(_SHORTEST, min(_LONGEST, self.memory // 16))
        sources: dict[str, list[Piece]] = {}
        for fill in fills:
            sources.setdefault(fill.item.info.relative_path, []).extend(self._pieces(fill, longest))
        self._read(sources, self.memory - held)

    def _pieces(self, fill: Fill, longest: int) -> Iterator[Piece]:
        item = fill.item
        start, end = item.info.offset, item.info.offset + item.info.length
        if fill.stored is not None and fill.target is not None:
            yield from place(self._select(item, fill.stored), fill.stored.dtype, fill.target, longest)
        elif fill.is_decoded_at_once:
            yield Piece(start, end, self._decoder(fill))
        else:
            fill.raw = bytearray(item.info.length)
            if fill.raw:
                yield Piece(start, end, memoryview(fill.raw))

    def _select(self, item: Item, stored: StoredTensor) -> Box:
        try:
            return select(stored, item.read.storage_offsets, item.read.lengths)
        except ValueError as error:
            raise CorruptCheckpointError(
                f"{item.name} in {self._name(item)} is not what the checkpoint {self.folder} says of it: {error}. Load"
                " another checkpoint"
            ) from error

    def _decoder(self, fill: Fill) -> Callable[[memoryview], None]:
        """Return what fills a tensor from the bytes of a whole item, in whatever thread it is called."""
        is_inference = torch.is_inference_mode_enabled()

        def decode(view: memoryview) -> None:
            assert fill.target is not None  # noqa: S101  # only bytes have none
            with torch.inference_mode(is_inference):
                stored = read_head(view[:HEAD_SIZE], 0, view.nbytes)
                if stored is None:
                    self._unpickle(fill, io.BytesIO(view))
                    return
                for piece in place(self._select(fill.item, stored), stored.dtype, fill.target, view.nbytes):
                    piece.deliver(view[piece.start : piece.end])
                fill.dtype = stored.dtype

        return decode

    def _read(self, sources: Mapping[str, Sequence[Piece]], memory: int | None = None) -> None:
        """Fetch pieces of the checkpoint's files."""
        requests = [
            (GetRequest(self.folder.bucket, self.folder.key(name)), pieces)
            for name, pieces in sources.items()
            if pieces
        ]
        if not requests:
            return
        bound = None if memory is None else max(memory, 1)
        with explained(self.folder):
            read_pieces(self.client.engine, self.client.s3client_config, requests, memory=bound)

    def resolve_read(self, read: ReadItem, planner: LoadPlanner) -> torch.Tensor:
        """Ask the planner for the tensor that an item goes into.

        Args:
            read: The item.
            planner: Has the tensor.
        """
        target = planner.resolve_tensor(read).detach()
        if target.size() != read.lengths:
            raise CheckpointError(
                f"{read.storage_index.fqn} of the checkpoint {self.folder}: {tuple(read.lengths)} elements are to be"
                f" loaded into a tensor of {tuple(target.size())}. Give a tensor of the saved shape"
            )
        return target

    def _finish(self, wave: _Wave, planner: LoadPlanner) -> None:
        """Fetch what a wave has gathered and hand it over."""
        self.fetch(wave.fills, wave.held)
        for fill in wave.fills:
            self.hand_over(fill, planner)

    def hand_over(self, fill: Fill, planner: LoadPlanner) -> None:
        """Give the planner what has come.

        Args:
            fill: What was fetched.
            planner: Takes it.
        """
        item = fill.item
        if fill.raw is not None:
            if item.is_bytes:
                raw, fill.raw = fill.raw, None
                planner.load_bytes(item.read, self._open(item, raw))
                return
            self.decode(fill)
        elif fill.target is not None and not fill.target.is_inference():
            # Its memory has changed without torch's knowledge.
            torch.autograd.graph.increment_version(fill.target)
        if fill.target is not None:
            planner.commit_tensor(item.read, fill.target)

    def _open(self, item: Item, raw: bytearray) -> io.BytesIO:
        stream: IO[bytes] = io.BytesIO(raw)
        if not item.transforms:
            return stream  # type: ignore[return-value]  # made a line above
        return io.BytesIO(self.transform(item.read, item.transforms, stream).read(-1))

    def decode(self, fill: Fill) -> None:
        """Make a tensor of what was read whole, and copy what is wanted of it.

        Args:
            fill: A tensor whose bytes have come. Its type is known then.
        """
        raw, fill.raw = fill.raw, None
        assert raw is not None  # noqa: S101  # they have come
        stream = self._open(fill.item, raw)
        del raw  # what was made of them is enough
        self._unpickle(fill, stream)

    def _unpickle(self, fill: Fill, stream: io.BytesIO) -> None:
        item, target = fill.item, fill.target
        assert target is not None  # noqa: S101  # only bytes have none
        try:
            tensor: torch.Tensor = torch.load(stream, map_location="cpu", weights_only=True)
            for dimension, (offset, length) in enumerate(
                zip(item.read.storage_offsets, item.read.lengths, strict=True)
            ):
                tensor = tensor.narrow(dimension, offset, length)
        except Exception as error:
            raise CorruptCheckpointError(
                f"{item.name} in {self._name(item)} of the checkpoint {self.folder} cannot be read"
                f" ({type(error).__name__}: {error}). The object is damaged: load another checkpoint"
            ) from error
        if tensor.size() != target.size():
            raise CorruptCheckpointError(
                f"{item.name} in {self._name(item)} has {tuple(tensor.size())} elements where the checkpoint"
                f" {self.folder} says {tuple(target.size())}. The object was replaced: load another checkpoint"
            )
        target.copy_(tensor)
        fill.dtype = tensor.dtype

    def _name(self, item: Item) -> str:
        return f"s3://{self.folder.bucket}/{self.folder.key(item.info.relative_path)}"


@dataclass(slots=True, eq=False)
class Fill:
    """An item on its way."""

    item: Item
    """What is read."""
    stored: StoredTensor | None
    """Where its elements lie; None for what is read whole."""
    target: torch.Tensor | None
    """Takes the elements; None for bytes."""
    raw: bytearray | None = None
    """The bytes of what is read whole, from when it is fetched until it is handed over."""
    dtype: torch.dtype | None = None
    """Type in which a tensor is stored, where its own bytes have told it."""

    @property
    def is_decoded_at_once(self) -> bool:
        """Whether a tensor that comes whole goes where it belongs as soon as it has come."""
        is_tensor_to_decode = self.stored is None and self.target is not None and not self.item.transforms
        return is_tensor_to_decode and 0 < self.item.info.length <= _SMALL

    @property
    def held(self) -> int:
        """Bytes of the item that are held until it is handed over."""
        return 0 if self.stored is not None or self.is_decoded_at_once else self.item.info.length


@dataclass(slots=True, eq=False)
class _Wave:
    """Items that are fetched together."""

    fills: list[Fill] = field(default_factory=list)
    held: int = 0


@contextmanager
def explained(folder: Folder) -> Iterator[None]:
    """Say what it means for a checkpoint if one of its files is not what it should be.

    Args:
        folder: The checkpoint.
    """
    try:
        yield
    except ObjectNotFoundError as error:
        raise CorruptCheckpointError(
            f"the checkpoint {folder} is incomplete: s3://{error.bucket}/{error.key} is missing. It was deleted after"
            " the save, or not copied with the rest: load another checkpoint"
        ) from error
    except InvalidRangeError as error:
        raise CorruptCheckpointError(
            f"the checkpoint {folder} is damaged: s3://{error.bucket}/{error.key} ends before the data that the"
            " metadata places in it. It was replaced or cut short after the save: load another checkpoint"
        ) from error


def _owned_storages(planner: LoadPlanner) -> set[int | None]:
    """Find the memory that is there anyway: that of the tensors which are loaded into."""
    owned: set[int | None] = set()
    state: Any = getattr(planner, "state_dict", None)
    for value in state.values() if isinstance(state, dict) else ():
        if isinstance(value, torch.Tensor):
            local: Any = value.to_local() if hasattr(value, "to_local") else value
            if isinstance(local, torch.Tensor):
                owned.add(_storage_of(local))
    return owned - {None}


def _storage_of(tensor: torch.Tensor) -> int | None:
    """Return what tells a tensor's memory from that of others; None where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):  # sparse tensors, wrappers around others
        return None


def _synchronize(device: torch.device, done: set[torch.device]) -> None:
    """Wait until a device has done what it was told so far: the copies to it may come from another thread."""
    if device.type in ("cpu", "meta") or device in done:
        return
    done.add(device)
    module = torch.get_device_module(device)
    if hasattr(module, "synchronize"):
        module.synchronize(device) if device.type == "cuda" else module.synchronize()
