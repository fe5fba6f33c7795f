"""Which objects a safetensors model consists of: one file, or several with or without an index."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3torch.client import GetRequest, ObjectNotFoundError, S3Client, S3Uri, parse_s3_uri
from s3torch.dcp._folder import Folder, parse_folder
from s3torch.dcp._safetensors_format import SafetensorsError

__all__ = [
    "INDEX_SUFFIX",
    "SUFFIX",
    "ModelFiles",
    "UnknownTensorError",
    "files_of_folder",
    "find_files",
    "make_index",
    "read_index",
    "unknown_tensor",
]

SUFFIX = ".safetensors"
"""What the names of safetensors files end with."""
INDEX_SUFFIX = ".safetensors.index.json"
"""What the names of indexes end with: they tell in which file of several each tensor is."""

_LARGEST_INDEX = 100_000_000


class UnknownTensorError(KeyError):
    """The model has no tensor of that name."""

    def __str__(self) -> str:
        """Return the message; a KeyError's own is in quotes."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model, before any of their headers is read."""

    name: str
    """What the user has named."""
    requests: tuple[GetRequest, ...]
    """The files, with ETag and size where a listing told."""
    index: Mapping[str, str] | None = None
    """In which file, by its key, each tensor is; None where only the files know."""
    fallback: GetRequest | None = None
    """The index to look for where the only file is not there."""

    def holding(self, names: Iterable[str]) -> tuple[GetRequest, ...]:
        """Return the files that hold these tensors, as far as it is known.

        Args:
            names: Names of tensors.

        Raises:
            UnknownTensorError: The index does not have one of them.
        """
        if self.index is None:
            return self.requests
        wanted = set()
        for name in names:
            if name not in self.index:
                raise unknown_tensor(name, self.index, self.name)
            wanted.add(self.index[name])
        return tuple(request for request in self.requests if request.key in wanted)


def find_files(client: S3Client, uri: str) -> ModelFiles:
    """Find the files of a model.

    Args:
        client: Where to look.
        uri: A file, an index, or the folder of either.

    Returns:
        The files. The store is not asked where the name tells that it is a file.

    Raises:
        SafetensorsError: There is more than one model in the folder, or the index is broken.
        ObjectNotFoundError: There is none.
    """
    bucket, key = parse_s3_uri(uri)
    if key.endswith(SUFFIX):
        return ModelFiles(uri, (GetRequest(bucket, key),), fallback=GetRequest(bucket, f"{key}.index.json"))
    if key.endswith(".json"):
        return read_index(client, uri, GetRequest(bucket, key))
    return files_of_folder(client, parse_folder(uri))


def files_of_folder(client: S3Client, folder: Folder) -> ModelFiles:
    """Find the files of the only model in a folder.

    Args:
        client: Where to look.
        folder: The folder.

    Returns:
        The files that the index names; without an index all safetensors files.

    Raises:
        SafetensorsError: There is more than one model, or the index is broken.
        ObjectNotFoundError: There is none.
    """
    found = [
        GetRequest(folder.bucket, info.key, etag=info.etag or None, size=info.size)
        for page in client.list_objects(folder.bucket, folder.prefix, "/")
        for info in page.object_info
    ]
    files = [request for request in found if request.key.endswith(SUFFIX)]
    indexes = [request for request in found if request.key.endswith(INDEX_SUFFIX)]
    if len(indexes) > 1:
        names = ", ".join(_name(index) for index in indexes)
        raise SafetensorsError(f"{folder} has several models: {names}. Name the one that is meant")
    if indexes:
        (index,) = indexes
        single = index.key.removesuffix(".index.json")
        if any(file.key == single for file in files):
            raise SafetensorsError(
                f"{folder} has a model in one file, {_name(index).removesuffix('.index.json')}, and one in several,"
                f" {_name(index)}. Name the one that is meant"
            )
        return read_index(client, str(folder), index, files)
    if not files:
        raise ObjectNotFoundError(
            "there is no safetensors file in this folder",
            operation="ListObjectsV2",
            bucket=folder.bucket,
            key=folder.prefix,
            remedy=f"Name a file that ends with {SUFFIX}, its index, or the folder that holds it.",
        )
    return ModelFiles(str(folder), tuple(files))


def read_index(client: S3Client, name: str, request: GetRequest, files: Sequence[GetRequest] = ()) -> ModelFiles:
    """Read which files a model has.

    Args:
        client: Where to read.
        name: What the user has named.
        request: The index.
        files: What a listing told of the files.

    Raises:
        SafetensorsError: It is not an index.
        S3Exception: It could not be read.
    """
    uri = S3Uri(request.bucket, request.key)
    if (request.size or 0) > _LARGEST_INDEX:
        raise SafetensorsError(f"{uri}: not an index: it has {request.size} bytes")
    try:
        found = json.loads(client.read(request.bucket, request.key))
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"{uri}: not an index: it cannot be read: {error}") from None
    places: Any = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not all(isinstance(place, str) and place for place in places.values()):
        raise SafetensorsError(f"{uri}: not an index: it has no weight_map from tensors to files")
    folder = request.key[: request.key.rfind("/") + 1]
    index = {tensor: folder + place for tensor, place in places.items()}
    known = {file.key: file for file in files}
    keys = sorted(set(index.values()))
    return ModelFiles(name, tuple(known.get(key, GetRequest(request.bucket, key)) for key in keys), index)


def make_index(places: Mapping[str, str], total_size: int) -> bytes:
    """Write an index.

    Args:
        places: The name of the file in which each tensor is.
        total_size: Bytes of all tensors.
    """
    content = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(places.items()))}
    return (json.dumps(content, indent=2) + "\n").encode()


def unknown_tensor(name: str, known: Iterable[str], where: str) -> UnknownTensorError:
    """Make the error for a tensor that is not there.

    Args:
        name: What was asked for.
        known: What there is.
        where: The model.
    """
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else " keys() lists what there is."
    return UnknownTensorError(f"{where} has no tensor {name!r}.{hint}")


def _name(request: GetRequest) -> str:
    return request.key.rpartition("/")[2]
