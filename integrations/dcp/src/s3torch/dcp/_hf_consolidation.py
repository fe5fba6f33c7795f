"""The end of a save: the index, what an earlier save has left, and whole tensors made of parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from s3torch.client import PutObjectStream, S3Client, S3Exception
from s3torch.dcp._elements import put_elements
from s3torch.dcp._folder import Folder
from s3torch.dcp._hf_model import Fill, SavedTensor, describe_files, fill_tensors
from s3torch.dcp._hf_plan import file_name, is_file_of_save
from s3torch.dcp._model_files import files_of_folder, make_index
from s3torch.dcp._safetensors_files import SAVE_FILES, SAVE_ID, read_headers
from s3torch.dcp._safetensors_format import layout_key, make_header, stored_size

__all__ = ["consolidate", "delete_leftovers", "put_index"]

_INDEX = "model.safetensors.index.json"
# Bytes of tensors that are read at once.
_AT_ONCE = 128 * 1024 * 1024


def put_index(client: S3Client, folder: Folder, places: Mapping[str, str], total_size: int) -> None:
    """Write the index, which makes a model of files.

    Args:
        client: Where to write.
        folder: The model's folder.
        places: The name of the file in which each tensor is.
        total_size: Bytes of all tensors.
    """
    client.put(folder.bucket, folder.key(_INDEX), make_index(places, total_size))


def delete_leftovers(client: S3Client, folder: Folder, files: Iterable[str], *, has_index: bool = True) -> None:
    """Delete what an earlier save has left beside the files of this one, and what would be taken for a part of it.

    Args:
        client: Where to delete.
        folder: The model's folder.
        files: Names of this save's files.
        has_index: Whether this save has an index.

    Raises:
        S3Exception: Something could not be deleted.
    """
    kept = set(files)
    keys = []
    for page in client.list_objects(folder.bucket, folder.prefix, "/"):
        for info in page.object_info:
            name = info.key[len(folder.prefix) :]
            if (is_file_of_save(name) and name not in kept) or (name == _INDEX and not has_index):
                keys.append(info.key)
    for error in client.delete_objects(folder.bucket, keys) if keys else []:
        raise S3Exception(
            f"a file of an earlier save could not be deleted: {error.message}",
            operation="DeleteObjects",
            bucket=folder.bucket,
            key=error.key,
            code=error.code,
            remedy="Delete it, or the model cannot be loaded: it would be taken for a part of it.",
        )


def consolidate(
    client: S3Client, source: Folder, target: Folder, mapping: Mapping[str, int] | None, save_id: str
) -> None:
    """Make files of whole tensors of the parts that ranks have saved, within the store's network.

    Args:
        client: Where to read and write.
        source: Where the parts are.
        target: The folder for the files.
        mapping: In which file each tensor goes; None for one file.
        save_id: The save's name.
    """
    tensors = describe_files(read_headers(client, files_of_folder(client, source)))
    highest = max(mapping.values(), default=1) if mapping else 1
    groups: dict[str, list[SavedTensor]] = {}
    for tensor in tensors.values():
        index = mapping[tensor.name] if mapping else 1
        groups.setdefault(file_name(index, highest), []).append(tensor)
    notes = {"format": "pt"}
    if len(groups) > 1:
        notes |= {SAVE_ID: save_id, SAVE_FILES: str(len(groups))}
    for name, group in sorted(groups.items()):
        _write(client, target, name, group, notes)
    places = {tensor.name: name for name, group in groups.items() for tensor in group}
    put_index(client, target, places, sum(stored_size(tensor.dtype, tensor.shape) for tensor in tensors.values()))
    delete_leftovers(client, target, groups)


def _write(
    client: S3Client, folder: Folder, name: str, tensors: Iterable[SavedTensor], notes: Mapping[str, str]
) -> None:
    tensors = sorted(tensors, key=lambda tensor: layout_key(tensor.name, tensor.dtype))
    header = make_header([(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors], notes)
    size = len(header) + sum(stored_size(tensor.dtype, tensor.shape) for tensor in tensors)
    with PutObjectStream(client.engine, client.s3client_config, folder.bucket, folder.key(name), size=size) as stream:
        stream.write(header)
        for loaded in _load(client, tensors):
            put_elements(stream, loaded)


def _load(client: S3Client, tensors: Iterable[SavedTensor]) -> Iterator[torch.Tensor]:
    """Load whole tensors, some at a time."""
    group: list[SavedTensor] = []
    size = 0
    for tensor in tensors:
        nbytes = stored_size(tensor.dtype, tensor.shape)
        if group and size + nbytes > _AT_ONCE:
            yield from _load_group(client, group)
            group, size = [], 0
        group.append(tensor)
        size += nbytes
    yield from _load_group(client, group)


def _load_group(client: S3Client, group: Iterable[SavedTensor]) -> list[torch.Tensor]:
    fills: list[Fill] = []
    loaded: list[torch.Tensor] = []
    for tensor in group:
        whole = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        loaded.append(whole)
        for part in tensor.parts:
            box = tuple(slice(at, at + length) for at, length in zip(part.offsets, part.shape, strict=True))
            fills.append(Fill(part, (0,) * len(part.offsets), whole[box]))
    fill_tensors(client, fills)
    return loaded
