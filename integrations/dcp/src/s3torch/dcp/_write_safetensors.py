"""A safetensors file, written as it goes: the header is known from the plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from s3torch.client import PutObjectStream
from s3torch.dcp._elements import is_dense, put_elements
from s3torch.dcp._item_info import note_payload
from s3torch.dcp._safetensors_format import layout_key, make_header
from s3torch.dcp._save_plan import FilePlan, item_size

__all__ = ["write_safetensors"]


def write_safetensors(
    open_stream: Callable[[int], AbstractContextManager[PutObjectStream]],
    file: FilePlan,
    resolve: Callable[[WriteItem], torch.Tensor],
) -> list[WriteResult]:
    """Write tensors as one safetensors file.

    Args:
        open_stream: Opens the file, given its size in bytes.
        file: Its name, as the metadata will tell it, the tensors, and notes.
        resolve: Returns a tensor's content, ready to be written.

    Returns:
        Where each tensor lies.

    Raises:
        ValueError: The format has no such type of elements, or a tensor is not what the plan says.
    """
    items = sorted(file.items, key=lambda item: layout_key(item.index.fqn, _planned(item).properties.dtype))
    header = make_header(
        [(item.index.fqn, _planned(item).properties.dtype, tuple(_planned(item).chunk.sizes)) for item in items],
        {**_describe(items), **dict(file.notes)},
    )
    results = []
    with open_stream(len(header) + sum(item_size(item) for item in items)) as stream:
        stream.write(header)
        for item in items:
            tensor = resolve(item)
            _check(item, tensor)
            start = stream.tell()
            put_elements(stream, tensor if is_dense(tensor) else _dense_copy(tensor))
            info = _StorageInfo(file.name, start, stream.tell() - start)
            note_payload(info, 0)
            results.append(WriteResult(index=item.index, size_in_bytes=info.length, storage_data=info))
    return results


def _describe(items: Sequence[WriteItem]) -> dict[str, str]:
    """Say what torch notes in such a file: where in its tensor each shard begins."""
    offsets = {item.index.fqn: {"saved_offsets": list(_planned(item).chunk.offsets)} for item in items}
    return {"DCP_SHARDING_INFO": json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"}


def _planned(item: WriteItem) -> TensorWriteData:
    assert item.tensor_data is not None  # noqa: S101  # only objects of bytes have none
    return item.tensor_data


def _check(item: WriteItem, tensor: torch.Tensor) -> None:
    planned = _planned(item)
    if tensor.dtype != planned.properties.dtype or tensor.shape != torch.Size(planned.chunk.sizes):
        raise ValueError(
            f"the planner resolved {item.index.fqn!r} to {tensor.dtype} of {tuple(tensor.shape)}, but planned"
            f" {planned.properties.dtype} of {tuple(planned.chunk.sizes)}: in safetensors both must agree"
        )


def _dense_copy(tensor: torch.Tensor) -> torch.Tensor:
    dense = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    if not is_dense(dense):
        raise ValueError(f"safetensors holds dense tensors, not a {type(tensor).__name__} of layout {tensor.layout}")
    return dense
