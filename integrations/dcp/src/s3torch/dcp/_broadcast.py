"""Reading what several ranks need on one of them, and sending it to the others."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlanner, ReadItem

from s3torch.dcp._broadcast_plan import Batch, Offer, Share, SharedItem, Wanted, wanted
from s3torch.dcp._items import find_items
from s3torch.dcp._loading import Fill, Loading
from s3torch.dcp._tensor_memory import byte_view, is_plain
from s3torch.dcp.errors import CheckpointError

__all__ = ["make_offer", "run_shared"]

# Smaller items are sent together.
_ALONE = 1024 * 1024
_ALIGNMENT = 64
_FINE, _OTHERWISE, _FAILED = 0, 1, 2


def make_offer() -> Offer | None:
    """Return what tells the coordinator that this rank can take part; None if it cannot."""
    if not (dist.is_available() and dist.is_initialized() and dist.is_gloo_available()) or dist.get_world_size() == 1:
        return None
    return Offer(dist.get_rank(), _host(), dist.get_world_size())


def run_shared(share: Share, reads: Sequence[ReadItem], planner: LoadPlanner, loading: Loading) -> None:
    """Load a plan whose items are shared in part.

    Args:
        share: What the coordinator has decided.
        reads: The plan's items.
        planner: Whose tensors are filled.
        loading: Where to load from.

    Raises:
        CheckpointError: As `Loading.run`; or another rank has failed.
        S3Exception: As `Loading.run`.
    """
    shared = {item.wanted for batch in share.batches for item in batch}
    mine: dict[Wanted, ReadItem] = {}
    left: list[ReadItem] = []
    for read in reads:
        each = wanted(read)
        if each in shared and each not in mine:
            mine[each] = read
        else:
            left.append(read)
    state = _FINE
    sent: _Sending | None = None  # on its way while the next batch is read
    with _group(share.groups) as group:
        error = _attempt(lambda: loading.run(left, planner))
        for batch in share.batches:
            sending = _Sending(batch, mine, planner, loading)
            error = error or _attempt(sending.fetch)
            if sent is not None:
                error = sent.finish() or error
                sent = None
            state = _agree(group, _FAILED if error is not None else sending.state)
            if state == _FAILED:
                break
            if state == _OTHERWISE:  # not of the type the metadata says: everyone reads it as it is
                reads_of = [mine[item.wanted] for item in batch if item.wanted in mine]
                error = _attempt(lambda reads_of=reads_of: loading.run(reads_of, planner))
                continue
            sending.send(group)
            sent = sending
        if sent is not None:
            error = sent.finish()
    if error is not None:
        raise error
    if state == _FAILED:
        raise CheckpointError(
            f"another rank has failed to read its part of the checkpoint {loading.folder}: see its error"
        )


class _Sending:
    """A batch on its way: fetched by its roots, sent, handed to the planner."""

    def __init__(self, batch: Batch, mine: dict[Wanted, ReadItem], planner: LoadPlanner, loading: Loading) -> None:
        self._batch = batch
        self._mine = mine
        self._planner = planner
        self._loading = loading
        self._parcels: list[_Parcel] = []
        self._flats: list[tuple[int, torch.Tensor]] = []
        self._works: list[Any] = []
        self.state = _FINE

    def fetch(self) -> None:
        """Make room for all items, and read those that this rank reads for its group."""
        self._make_parcels()
        rank = dist.get_rank()
        fills: list[Fill] = []
        due = [parcel for parcel in self._parcels if parcel.item.root == rank]
        items = find_items([_as_read(parcel) for parcel in due], self._loading.storage, self._loading.folder)
        by_wanted = {parcel.item.wanted: parcel for parcel in due}
        for item, stored in zip(items, self._loading.locate(items), strict=True):
            parcel = by_wanted[wanted(item.read)]
            if stored is not None and stored.dtype != parcel.item.dtype:
                self.state = _OTHERWISE
                return
            fills.append(Fill(item, stored, None if item.is_bytes else parcel.room))
        self._loading.fetch(fills, sum(fill.held for fill in fills))
        for fill in fills:
            parcel = by_wanted[wanted(fill.item.read)]
            if fill.item.is_bytes:
                if fill.raw:
                    parcel.room.copy_(torch.frombuffer(fill.raw, dtype=torch.uint8))
                continue
            if fill.raw is not None:
                self._loading.decode(fill)
            if fill.dtype not in (None, parcel.item.dtype):
                self.state = _OTHERWISE

    def send(self, group: Any) -> None:
        """Begin to send from every root to the others."""
        self._works = [dist.broadcast(flat, src=root, group=group, async_op=True) for root, flat in self._flats]

    def finish(self) -> BaseException | None:
        """Wait until all has come and hand it over; return what went wrong."""
        for work in self._works:
            if work is not None:
                work.wait()
        return _attempt(self.hand_over)

    def hand_over(self) -> None:
        """Give the planner what has come."""
        for parcel in self._parcels:
            if parcel.read is None:
                continue
            if parcel.target is None:
                self._planner.load_bytes(parcel.read, io.BytesIO(byte_view(parcel.room)))
                continue
            if parcel.room is parcel.target:
                torch.autograd.graph.increment_version(parcel.target)
            else:
                parcel.target.copy_(parcel.room)
            self._planner.commit_tensor(parcel.read, parcel.target)

    def _make_parcels(self) -> None:
        """Lay out the memory that is sent: a tensor's own where it can be, else some of our own."""
        packed: dict[int, int] = {}
        placed: list[tuple[SharedItem, ReadItem | None, torch.Tensor | None, int]] = []
        for item in self._batch:
            read = self._mine.get(item.wanted)
            target = None if read is None or item.dtype is None else self._loading.resolve_read(read, self._planner)
            if item.nbytes < _ALONE:
                at = packed.get(item.root, 0)
                packed[item.root] = -(-(at + item.nbytes) // _ALIGNMENT) * _ALIGNMENT
                placed.append((item, read, target, at))
                continue
            if target is not None and target.dtype == item.dtype and is_plain(target) and not target.is_inference():
                room, flat = target, target.reshape(-1).view(torch.uint8)
            else:
                flat = torch.empty(item.nbytes, dtype=torch.uint8)
                room = _shaped(flat, item)
            self._parcels.append(_Parcel(item, read, target, room))
            self._flats.append((item.root, flat))
        flats = {root: torch.empty(size, dtype=torch.uint8) for root, size in packed.items() if size}
        for item, read, target, at in placed:
            flat = flats[item.root][at : at + item.nbytes] if item.nbytes else torch.empty(0, dtype=torch.uint8)
            self._parcels.append(_Parcel(item, read, target, _shaped(flat, item)))
        self._flats += sorted(flats.items())


@dataclass(frozen=True, slots=True, eq=False)
class _Parcel:
    """An item and the memory in which it is sent."""

    item: SharedItem
    read: ReadItem | None
    """Where it goes on this rank; None if the planner does without."""
    target: torch.Tensor | None
    """Takes it; None for bytes, and where nothing does."""
    room: torch.Tensor
    """What is sent."""


def _shaped(flat: torch.Tensor, item: SharedItem) -> torch.Tensor:
    return flat if item.dtype is None else flat.view(item.dtype).view(item.wanted.lengths)


def _as_read(parcel: _Parcel) -> ReadItem:
    if parcel.read is not None:
        return parcel.read
    each = parcel.item.wanted
    offsets, lengths = torch.Size(each.offsets), torch.Size(each.lengths)
    kind = LoadItemType.BYTE_IO if each.is_bytes else LoadItemType.TENSOR
    return ReadItem(kind, each.index, offsets, each.index, offsets, lengths)


def _attempt(call: Any) -> BaseException | None:
    """Do something, and keep its error until all ranks can learn of it."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # raised once the others know, or they would wait for ever
        return error
    return None


def _agree(group: Any, state: int) -> int:
    """Return the worst state of all ranks of the group."""
    worst = torch.tensor([state], dtype=torch.int64)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX, group=group)
    return int(worst)


@contextmanager
def _group(groups: Sequence[Sequence[int]]) -> Iterator[Any]:
    """Lend the group of processes that this rank is in, able to send from the CPU's memory."""
    rank = dist.get_rank()
    if len(groups) == 1 and _sends_from_cpu():
        yield dist.group.WORLD
        return
    made = [(members, dist.new_group(list(members), backend="gloo")) for members in groups]
    try:
        yield next(group for members, group in made if rank in members)
    finally:
        for members, group in made:
            if rank in members:
                dist.destroy_process_group(group)


def _sends_from_cpu() -> bool:
    backends = str(dist.get_backend_config()) if hasattr(dist, "get_backend_config") else dist.get_backend()
    return backends == "gloo" or "cpu:gloo" in backends


def _host() -> str:
    """Tell this host from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"
