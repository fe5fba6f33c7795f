"""The items of a load plan, and what is known of where they are stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from s3torch.dcp._folder import Folder
from s3torch.dcp._item_info import payload_offset
from s3torch.dcp._load_plan import StoredTensor
from s3torch.dcp.errors import CorruptCheckpointError

__all__ = ["Item", "find_items", "noted_tensor", "wanted_bytes"]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What is to be read."""

    read: ReadItem
    """What the planner asks for."""
    info: _StorageInfo
    """Where it is stored."""

    @property
    def is_bytes(self) -> bool:
        """Whether it is an object other than a tensor."""
        return bool(self.read.type == LoadItemType.BYTE_IO)

    @property
    def transforms(self) -> Sequence[str]:
        """What the bytes went through when they were saved."""
        return getattr(self.info, "transform_descriptors", None) or ()  # older torch has no such thing

    @property
    def name(self) -> str:
        """How to speak of it."""
        return self.read.storage_index.fqn


def find_items(reads: Sequence[ReadItem], storage: Mapping[MetadataIndex, Any], folder: Folder) -> list[Item]:
    """Look up where the items of a plan are stored.

    Args:
        reads: What the planner asks for.
        storage: What the metadata tells of each stored item.
        folder: The checkpoint.

    Returns:
        The items, in the order in which they are stored.

    Raises:
        CorruptCheckpointError: The metadata does not tell of one.
    """
    items = []
    for read in reads:
        info = storage.get(read.storage_index)
        if not isinstance(info, _StorageInfo):
            where = "" if read.storage_index.offset is None else f" at {tuple(read.storage_index.offset)}"
            raise CorruptCheckpointError(
                f"the metadata of the checkpoint {folder} does not say where {read.storage_index.fqn}{where} lies. It"
                " is damaged, or was written by another storage writer: load another checkpoint"
            )
        items.append(Item(read, info))
    items.sort(key=lambda item: (item.info.relative_path, item.info.offset))
    return items


def noted_tensor(item: Item, metadata: Metadata | None) -> StoredTensor | None:
    """Return where a tensor's elements lie, if the writer has noted it.

    Args:
        item: The tensor.
        metadata: The checkpoint's, for type and shape.

    Returns:
        The tensor as it is stored; None where its head has to be read.
    """
    offset = payload_offset(item.info)
    if offset is None:
        return None
    described = _describe(item, metadata)
    if described is None:
        return None
    chunk = _find_chunk(described, item.read.storage_index)
    if chunk is None:
        return None
    shape = tuple(chunk.sizes)
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    dtype = described.properties.dtype
    if offset + step * dtype.itemsize > item.info.length:
        return None
    return StoredTensor(item.info.offset + offset, dtype, shape, tuple(reversed(stride)))


def wanted_bytes(item: Item, metadata: Metadata | None) -> int:
    """Return how many bytes a read takes of a stored tensor's elements.

    Args:
        item: The tensor.
        metadata: The checkpoint's, for the type.

    Returns:
        The bytes; 0 where the metadata does not tell.
    """
    described = _describe(item, metadata)
    return 0 if described is None else math.prod(item.read.lengths) * described.properties.dtype.itemsize


def _describe(item: Item, metadata: Metadata | None) -> TensorStorageMetadata | None:
    """Return what the metadata says of the whole tensor, if it does."""
    described = None if metadata is None else metadata.state_dict_metadata.get(item.read.storage_index.fqn)
    return described if isinstance(described, TensorStorageMetadata) else None


def _find_chunk(described: TensorStorageMetadata, index: MetadataIndex) -> ChunkStorageMetadata | None:
    chunks = described.chunks
    if index.index is not None and 0 <= index.index < len(chunks):
        hinted = chunks[index.index]
        if index.offset is None or hinted.offsets == index.offset:
            return hinted
    if index.offset is None:
        return chunks[0] if len(chunks) == 1 else None
    return next((chunk for chunk in chunks if chunk.offsets == index.offset), None)
