"""Which items one rank reads for others: decided by the coordinator, for all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

__all__ = ["Batch", "Broadcast", "Offer", "Share", "SharedItem", "Wanted", "share_plans", "wanted"]

Broadcast: TypeAlias = Literal["auto", "host", "job", "never"]
"""Who reads what all ranks need: one rank on each host, one rank of the job, or every rank, as
``auto`` has it."""

# Two batches are in memory at a time: one is sent, the next one read.
_BATCH = 48 * 1024 * 1024
_RUN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a read item asks of the checkpoint, wherever it goes."""

    is_bytes: bool
    """Whether it is an object other than a tensor."""
    index: MetadataIndex
    """Which stored item."""
    offsets: tuple[int, ...]
    """Index of the first element, for each dimension."""
    lengths: tuple[int, ...]
    """How many, for each dimension."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a rank adds to its plan if it can take part."""

    rank: int
    """Its rank in the job."""
    host: str
    """What tells its host from others."""
    jobs: int
    """Ranks in the job."""


@dataclass(frozen=True, slots=True)
class SharedItem:
    """An item that one rank reads for all of its group."""

    wanted: Wanted
    """What is read."""
    root: int
    """Who reads it: a rank of the job."""
    nbytes: int
    """Bytes that are sent."""
    dtype: torch.dtype | None
    """Type of the elements; None for bytes."""


Batch: TypeAlias = "tuple[SharedItem, ...]"
"""Items that are read and sent together."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the coordinator adds to a rank's plan."""

    groups: tuple[tuple[int, ...], ...]
    """The groups of all ranks, each of which shares among itself."""
    batches: tuple[Batch, ...]
    """What this rank's group shares, in the same order on all of its ranks."""


def wanted(read: ReadItem) -> Wanted:
    """Return what an item asks of the checkpoint.

    Args:
        read: The item.
    """
    return Wanted(
        bool(read.type == LoadItemType.BYTE_IO), read.storage_index, tuple(read.storage_offsets), tuple(read.lengths)
    )


def share_plans(
    plans: Sequence[LoadPlan], broadcast: Broadcast, storage: Mapping[MetadataIndex, Any], metadata: Metadata | None
) -> list[LoadPlan]:
    """Decide which items are read once and sent on.

    Args:
        plans: All ranks' plans, with their offers.
        broadcast: Who is to read.
        storage: Where the items are stored.
        metadata: The checkpoint's.

    Returns:
        The plans, each with its share, or without one where there is nothing to share.
    """
    offers = [plan.storage_data for plan in plans]
    plain = [replace(plan, storage_data=None) if isinstance(plan.storage_data, Offer) else plan for plan in plans]
    if not all(isinstance(offer, Offer) and offer.jobs == len(plans) for offer in offers):
        return plain  # some ranks cannot take part, or this is a part of the job
    if sorted(offer.rank for offer in offers) != list(range(len(plans))) or metadata is None:
        return plain
    by_host: dict[str, list[int]] = {}
    for number, offer in enumerate(offers):
        by_host.setdefault("" if broadcast == "job" else offer.host, []).append(number)
    if max(map(len, by_host.values())) == 1:
        return plain
    shares: dict[int, tuple[Batch, ...]] = {}
    for members in by_host.values():
        ranks = [offers[number].rank for number in members]
        common = _common([plan.items for plan in map(plans.__getitem__, members)]) if len(members) > 1 else []
        batches = _batches(_describe(common, storage, metadata), ranks)
        shares.update(dict.fromkeys(members, batches))
    if not any(shares.values()):
        return plain
    groups = tuple(tuple(offers[number].rank for number in members) for members in by_host.values())
    return [replace(plan, storage_data=Share(groups, shares[number])) for number, plan in enumerate(plans)]


def _common(items: Sequence[Iterable[ReadItem]]) -> list[Wanted]:
    """Find what every plan asks for, once."""
    counts = [Counter(map(wanted, each)) for each in items]
    first, *others = counts
    return [each for each, count in first.items() if count == 1 and all(other.get(each) == 1 for other in others)]


def _describe(
    common: Iterable[Wanted], storage: Mapping[MetadataIndex, Any], metadata: Metadata
) -> list[tuple[Wanted, int, torch.dtype | None]]:
    """Tell size and type of what can be shared, in the order in which it is stored."""
    found: list[tuple[Wanted, int, torch.dtype | None]] = []
    for each in common:
        info = storage.get(each.index)
        if info is None or getattr(info, "transform_descriptors", None):
            continue
        if each.is_bytes:
            found.append((each, info.length, None))
            continue
        described = metadata.state_dict_metadata.get(each.index.fqn)
        if isinstance(described, TensorStorageMetadata):
            dtype = described.properties.dtype
            nbytes = math.prod(each.lengths) * dtype.itemsize
            if nbytes:
                found.append((each, nbytes, dtype))
    found.sort(key=lambda entry: (storage[entry[0].index].relative_path, storage[entry[0].index].offset))
    return found


def _batches(found: Sequence[tuple[Wanted, int, torch.dtype | None]], ranks: Sequence[int]) -> tuple[Batch, ...]:
    """Put items together, and give each rank about as many bytes to read."""
    loads = dict.fromkeys(ranks, 0)
    batches: list[Batch] = []
    batch: list[SharedItem] = []
    size = run = 0
    root = ranks[0]
    for each, nbytes, dtype in found:
        # Small neighbours go to the same rank, which reads them together.
        if not run or run + nbytes > _RUN:
            root, run = min(ranks, key=loads.__getitem__), 0
        run += nbytes
        loads[root] += nbytes
        batch.append(SharedItem(each, root, nbytes, dtype))
        size += nbytes
        if size >= _BATCH:
            batches.append(tuple(batch))
            batch, size, run = [], 0, 0
    if batch:
        batches.append(tuple(batch))
    return tuple(batches)
