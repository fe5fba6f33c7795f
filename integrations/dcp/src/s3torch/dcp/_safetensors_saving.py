"""Tensors into safetensors files in S3, from their memory to the socket."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from s3torch.client import ObjectNotFoundError, PutObjectStream, S3Client
from s3torch.dcp._elements import is_dense, put_elements
from s3torch.dcp._model_files import INDEX_SUFFIX, SUFFIX, make_index
from s3torch.dcp._safetensors_files import SAVE_FILES, SAVE_ID
from s3torch.dcp._safetensors_format import layout_key, make_header, stored_size
from s3torch.dcp._tensor_memory import byte_view

__all__ = ["check_tensors", "save_file", "save_shards", "split_shards"]

_FORMAT = {"format": "pt"}  # transformers asks for this note


@dataclass(frozen=True, slots=True)
class _Span:
    """The memory of a tensor."""

    device: torch.device
    start: int
    end: int
    name: str


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that tensors can be saved, before anything is sent.

    Args:
        tensors: The tensors by name.

    Raises:
        TypeError: Something is not a tensor, or a name not a string.
        ValueError: A tensor has no plain elements, or two share memory.
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must map names to tensors, got {type(tensors).__name__}")
    spans: list[_Span] = []
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"{name!r} must be a tensor, got {type(tensor).__name__}: safetensors files hold nothing else"
            )
        if hasattr(tensor, "__tensor_flatten__"):
            raise ValueError(
                f"{name!r} is a {type(tensor).__name__}, which has no memory of its own. Save its full tensor, or save"
                " with torch.distributed.checkpoint and S3HuggingFaceStorageWriter"
            )
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ValueError(f"{name!r} is sparse or quantized. Convert it first, such as by to_dense()")
        if tensor.is_meta:
            raise ValueError(f"{name!r} is on the meta device: it has no elements to save")
        if tensor.numel():
            last = sum((size - 1) * abs(step) for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            start = tensor.data_ptr()
            spans.append(_Span(tensor.device, start, start + (last + 1) * tensor.itemsize, name))
    shared = _find_shared(spans)
    if shared:
        raise ValueError(
            f"these tensors share memory: {shared}. A safetensors file has each element once: save one name of each"
            " group, or clone() those that should be tensors of their own"
        )


def _find_shared(spans: Iterable[_Span]) -> list[list[str]]:
    groups: list[list[str]] = []
    before: _Span | None = None
    end = 0
    for span in sorted(spans, key=lambda span: (str(span.device), span.start)):
        if before is not None and before.device == span.device and span.start < end:
            groups[-1].append(span.name)
            end = max(end, span.end)
        else:
            groups.append([span.name])
            end = span.end
        before = span
    return [group for group in groups if len(group) > 1]


def split_shards(tensors: Mapping[str, torch.Tensor], largest: int) -> list[list[str]]:
    """Choose which tensors go into which of several files.

    Args:
        tensors: The tensors by name.
        largest: Bytes of the tensors of one file at most, unless a single tensor has more.

    Returns:
        The names for each file, in the order given; one list at least.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > largest:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def save_file(
    client: S3Client, bucket: str, key: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None
) -> None:
    """Write one file.

    Args:
        client: Where to write.
        bucket: The bucket.
        key: The key.
        tensors: The tensors by name, checked.
        metadata: Notes for the reader.
    """
    names = sorted(tensors, key=lambda name: layout_key(name, tensors[name].dtype))
    entries = [(name, tensors[name].dtype, tensors[name].shape) for name in names]
    header = make_header(entries, {**_FORMAT, **(metadata or {})})
    size = len(header) + sum(stored_size(dtype, shape) for _, dtype, shape in entries)
    with PutObjectStream(client.engine, client.s3client_config, bucket, key, size=size) as stream:
        stream.write(header)
        for name in names:
            tensor = _strip(tensors[name])
            if is_dense(tensor):
                put_elements(stream, tensor)
            else:  # a copy, which is gone before the next one is made
                stream.write(byte_view(tensor.cpu().resolve_conj().resolve_neg().contiguous()))


def save_shards(
    client: S3Client,
    bucket: str,
    key: str,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None,
    shards: Sequence[Sequence[str]],
) -> None:
    """Write several files, and then the index that makes a model of them.

    Args:
        client: Where to write.
        bucket: The bucket.
        key: The key that the model would have as one file.
        tensors: The tensors by name, checked.
        metadata: Notes for the reader.
        shards: The names for each file.
    """
    stem = key.removesuffix(SUFFIX)
    notes = {**(metadata or {}), SAVE_ID: uuid.uuid4().hex, SAVE_FILES: str(len(shards))}
    places: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        shard = f"{stem}-{number:05}-of-{len(shards):05}{SUFFIX}"
        save_file(client, bucket, shard, {name: tensors[name] for name in names}, notes)
        places.update(dict.fromkeys(names, shard.rpartition("/")[2]))
    total = sum(tensor.nbytes for tensor in tensors.values())
    client.put(bucket, stem + INDEX_SUFFIX, make_index(places, total))


def remove(client: S3Client, bucket: str, key: str) -> None:
    """Remove what another save has left under a name that would be found before, or beside, the new one."""
    try:
        client.head_object(bucket, key)
    except ObjectNotFoundError:
        return
    client.delete_object(bucket, key)


def _strip(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without its graph and its class."""
    tensor = tensor.detach()
    return tensor if type(tensor) is torch.Tensor else tensor.as_subclass(torch.Tensor)
