"""Which items go into which file."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.distributed.checkpoint.planner import WriteItem, WriteItemType

from s3torch.dcp._attempt import Names

__all__ = ["FilePlan", "is_bytes", "item_size", "plan_files"]

_SUFFIX = ".distcp"
_SAFETENSORS_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One object to write."""

    name: str
    """Its name, relative to the checkpoint's folder."""
    items: tuple[WriteItem, ...]
    """What goes into it, in this order."""
    is_safetensors: bool = False
    """Whether it is a safetensors file; its items are tensors of different names then."""
    notes: tuple[tuple[str, str], ...] = ()
    """Notes in the header of a safetensors file, beside torch's."""


def is_bytes(item: WriteItem) -> bool:
    """Tell whether an item is an object of bytes rather than a tensor."""
    return item.type == WriteItemType.BYTE_IO


def item_size(item: WriteItem) -> int:
    """Return how many bytes a tensor's elements take, as far as the plan knows; 0 for objects of bytes.

    Args:
        item: The item.
    """
    data = item.tensor_data
    return 0 if data is None else math.prod(data.chunk.sizes) * data.properties.dtype.itemsize


def plan_files(
    items: Sequence[WriteItem],
    names: Names,
    *,
    thread_count: int = 1,
    single_file_per_rank: bool = True,
    safetensors: bool = False,
) -> list[FilePlan]:
    """Spread items over files, evenly by their bytes.

    Args:
        items: What to write.
        names: How the files are called.
        thread_count: How many files are written at once.
        single_file_per_rank: One file for each thread rather than one for each item.
        safetensors: Write tensors as safetensors.

    Returns:
        The files, none of them empty.
    """
    if single_file_per_rank:
        groups = _spread(items, thread_count)
    else:
        groups = [[item] for item in items]
    if not safetensors:
        return [FilePlan(names.name(number, _SUFFIX), tuple(group)) for number, group in enumerate(groups)]
    files: list[FilePlan] = []
    for group in groups:
        objects = [item for item in group if is_bytes(item)]
        if objects:
            files.append(FilePlan(names.name(len(files), _SUFFIX), tuple(objects)))
        for tensors in _without_repeats([item for item in group if not is_bytes(item)]):
            files.append(FilePlan(names.name(len(files), _SAFETENSORS_SUFFIX), tuple(tensors), is_safetensors=True))
    return files


def _spread(items: Sequence[WriteItem], count: int) -> list[list[WriteItem]]:
    """Give the largest item left to whom has least, and keep the order of the plan within each."""
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for index in sorted(range(len(items)), key=lambda index: item_size(items[index]), reverse=True):
        filled, number = heapq.heappop(heap)
        bins[number].append(index)
        heapq.heappush(heap, (filled + max(1, item_size(items[index])), number))
    return [[items[index] for index in sorted(chosen)] for chosen in bins if chosen]


def _without_repeats(items: Sequence[WriteItem]) -> list[list[WriteItem]]:
    """Split so that no name, as of two shards of one tensor, occurs twice in a group."""
    groups: list[dict[str, WriteItem]] = []
    for item in items:
        name = item.index.fqn
        for group in groups:
            if name not in group:
                group[name] = item
                break
        else:
            groups.append({name: item})
    return [list(group.values()) for group in groups]
