"""Which items of a save go into which safetensors file, and what the files are called. Pure: no I/O.

The names are those of torch's own writer: ``model-00001-of-00002.safetensors`` for whole tensors,
``shard-00003-model-00001-of-00002.safetensors`` for what each rank has of tensors that are spread over ranks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch.distributed.checkpoint.planner import WriteItem

from s3torch.dcp._safetensors_files import SAVE_FILES, SAVE_ID
from s3torch.dcp._save_plan import FilePlan, is_bytes

__all__ = ["RankNames", "assign_files", "check_items", "file_name", "is_file_of_save", "plan_rank_files"]

_Group = tuple[int, int]
_NAME = re.compile(r"(shard-\d{5,}-)?model-\d{5,}-of-\d{5,}\.safetensors")


@dataclass(frozen=True, slots=True)
class RankNames:
    """What the coordinator tells a rank."""

    ticket: str
    """The rank's own name for the save; another one means that the plan is of another save."""
    save_id: str
    """The save's name."""
    file_count: int
    """How many files all ranks write together."""
    names: Mapping[_Group, str]
    """What the rank's files are called."""


def file_name(index: int, highest: int, shard: int | None = None) -> str:
    """Return the name of a file.

    Args:
        index: Number of the file, from 1.
        highest: Number of the last.
        shard: Number of the rank's part of it, from 1; None for whole tensors.
    """
    name = f"model-{index:05}-of-{highest:05}.safetensors"
    return name if shard is None else f"shard-{shard:05}-{name}"


def is_file_of_save(name: str) -> bool:
    """Tell whether a save would give a file this name.

    Args:
        name: The name, relative to the folder.
    """
    return _NAME.fullmatch(name) is not None


def check_items(items: Sequence[WriteItem], mapping: Mapping[str, int] | None, *, is_distributed: bool) -> None:
    """Check that items can be saved so, before any data is moved.

    Args:
        items: One rank's items.
        mapping: In which file each tensor goes; None for one file.
        is_distributed: Whether each rank saves its part of tensors.

    Raises:
        ValueError: They cannot.
    """
    for item in items:
        name = item.index.fqn
        if is_bytes(item) or item.tensor_data is None:
            raise ValueError(
                f"{name!r} is no tensor: safetensors files hold nothing else. Save it apart, or as a tensor"
            )
        if mapping is not None and name not in mapping:
            raise ValueError(f"fqn_to_index_mapping does not say in which file {name!r} goes")
        if not is_distributed and tuple(item.tensor_data.chunk.sizes) != tuple(item.tensor_data.size):
            raise ValueError(
                f"{name!r} is spread over ranks. Pass save_distributed=True, or gather the full state dict first"
            )


def assign_files(
    plans: Sequence[Sequence[WriteItem]],
    tickets: Sequence[str],
    save_id: str,
    mapping: Mapping[str, int] | None,
    *,
    is_distributed: bool,
) -> list[RankNames]:
    """Choose the files of all ranks.

    Args:
        plans: The items of each rank.
        tickets: The ticket of each rank.
        save_id: The save's name.
        mapping: In which file each tensor goes; None for one file, or one for each rank.
        is_distributed: Whether each rank saves its part of tensors.

    Returns:
        What to tell each rank.

    Raises:
        ValueError: Whole tensors of different ranks are to go into one file.
    """
    groups = [list(_group(items, mapping)) for items in plans]
    highest = max(mapping.values(), default=1) if mapping else 1
    named: list[dict[_Group, str]] = []
    if is_distributed:
        more = len(plans)
        for rank, rank_groups in enumerate(groups, start=1):
            names = {}
            for index, repeat in rank_groups:
                if repeat:
                    more += 1
                names[index, repeat] = file_name(index, highest, more if repeat else rank)
            named.append(names)
    elif mapping is None:
        total = sum(map(len, groups))
        numbers = iter(range(1, total + 1))
        named = [{group: file_name(next(numbers), total) for group in rank_groups} for rank_groups in groups]
    else:
        indices = [index for rank_groups in groups for index, _ in rank_groups]
        twice = next((index for index in indices if indices.count(index) > 1), None)
        if twice is not None:
            raise ValueError(
                f"fqn_to_index_mapping puts tensors of several ranks into file {twice}. Pass save_distributed=True, or"
                " DefaultSavePlanner(dedup_save_to_lowest_rank=True), with which rank 0 saves all of them"
            )
        named = [{group: file_name(group[0], highest) for group in rank_groups} for rank_groups in groups]
    count = sum(map(len, named))
    return [RankNames(ticket, save_id, count, names) for ticket, names in zip(tickets, named, strict=True)]


def plan_rank_files(items: Sequence[WriteItem], names: RankNames, mapping: Mapping[str, int] | None) -> list[FilePlan]:
    """Return what a rank writes.

    Args:
        items: Its items.
        names: What the coordinator has told.
        mapping: In which file each tensor goes; None for one file.
    """
    notes = ((SAVE_ID, names.save_id), (SAVE_FILES, str(names.file_count))) if names.file_count > 1 else ()
    return [
        FilePlan(names.names[group], tuple(chosen), is_safetensors=True, notes=notes)
        for group, chosen in _group(items, mapping).items()
    ]


def _group(items: Sequence[WriteItem], mapping: Mapping[str, int] | None) -> dict[_Group, list[WriteItem]]:
    """Divide items by their file; parts of one tensor, which cannot share a file, by their count."""
    groups: dict[_Group, list[WriteItem]] = {}
    seen: dict[str, int] = {}
    for item in items:
        name = item.index.fqn
        repeat = seen.get(name, 0)
        seen[name] = repeat + 1
        groups.setdefault((1 if mapping is None else mapping[name], repeat), []).append(item)
    return dict(sorted(groups.items()))
