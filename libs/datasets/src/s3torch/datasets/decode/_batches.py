"""Batches of samples of which not all have one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils.collate import collate as collate_by_type
from torch.utils.data._utils.collate import default_collate_fn_map

from s3torch.datasets.decode._memory import new_tensor

__all__ = ["collate"]


def collate(batch: Sequence[Any]) -> Any:
    """Make a batch as `torch.utils.data.default_collate` does, but of tensors that cannot be stacked make a list.

    The tensors of such a list lie in one block of memory, in a ``DataLoader`` worker in one of shared memory, so that
    the batch goes to the main process as a whole. Nested samples (tuples, dicts) are treated field by field.

    Args:
        batch: The samples.

    Returns:
        The batch.
    """
    return collate_by_type(list(batch), collate_fn_map={**default_collate_fn_map, torch.Tensor: _collate_tensors})


def _collate_tensors(batch: Sequence[torch.Tensor], *, collate_fn_map: Any = None) -> Any:  # noqa: ARG001  # torch's
    first = batch[0]
    if all(each.shape == first.shape and each.dtype == first.dtype for each in batch):
        return default_collate(list(batch))
    if any(each.dtype != first.dtype or each.layout != torch.strided for each in batch):
        return list(batch)
    counts = [each.numel() for each in batch]
    block = new_tensor(sum(counts), first.dtype, shared=get_worker_info() is not None)
    packed = [room.view(each.shape) for room, each in zip(block.split(counts), batch, strict=True)]
    for room, each in zip(packed, batch, strict=True):
        room.copy_(each)
    return packed
