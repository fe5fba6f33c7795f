"""Safetensors files in S3: saved from, and loaded into, the tensors' own memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import torch

from s3torch.client import S3Client, S3ClientConfig, S3Uri, UserAgent, parse_s3_uri, restore_s3_uri
from s3torch.dcp._model_files import INDEX_SUFFIX, SUFFIX, UnknownTensorError, find_files
from s3torch.dcp._safetensors_format import SafetensorsError
from s3torch.dcp._safetensors_loading import (
    S3Safetensors,
    S3SafetensorsSlice,
    check_names,
    open_model,
)
from s3torch.dcp._safetensors_saving import check_tensors, remove, save_file, save_shards, split_shards

__all__ = [
    "S3Safetensors",
    "S3SafetensorsSlice",
    "SafetensorsError",
    "UnknownTensorError",
    "load_safetensors",
    "open_safetensors",
    "save_safetensors",
]


def save_safetensors(
    tensors: Mapping[str, torch.Tensor],
    uri: str | os.PathLike[str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    metadata: Mapping[str, str] | None = None,
    s3client_config: S3ClientConfig | None = None,
    max_shard_size: int | None = None,
) -> None:
    """Save tensors as a safetensors file, from their memory to the network.

    The file becomes visible whole or not at all. Of several files the index comes last, and replaces what was under
    ``uri``; until then a model that was saved there before in as many files is partly overwritten, so give each model
    a folder of its own. Tensors that are not contiguous or not on the CPU are copied one at a time.

    Args:
        tensors: The tensors by name. They must not share memory.
        uri: ``s3://bucket/key``, by convention with ``.safetensors`` at its end.
        region: Region of the bucket; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        metadata: Notes for the reader, strings by name. ``format`` is set to ``pt`` unless given, as transformers
            expects.
        s3client_config: Options of the client; None gives the defaults.
        max_shard_size: Bytes of the tensors in one file at most, unless a single tensor has more. What does not fit one
            file is written as ``name-00001-of-0000N.safetensors`` and so on, with ``name.safetensors.index.json``.

    Raises:
        S3Exception: Writing failed.
        TypeError: Something is not a tensor, or a name or note not a string.
        ValueError: A tensor cannot be stored in this format, two share memory, or the URI is not of that form.
    """
    bucket, key = _parse(uri)
    if max_shard_size is not None:
        if isinstance(max_shard_size, bool) or not isinstance(max_shard_size, int):
            raise TypeError(f"max_shard_size must be a number of bytes, got {max_shard_size!r}")
        if max_shard_size < 1:
            raise ValueError(f"max_shard_size must be at least 1, got {max_shard_size}")
        if not key.endswith(SUFFIX):
            raise ValueError(f"with max_shard_size the name must end with {SUFFIX}, got {os.fspath(uri)!r}")
    check_tensors(tensors)
    with _client(region, endpoint, s3client_config) as client:
        if max_shard_size is None:
            save_file(client, bucket, key, tensors, metadata)
            return
        shards = split_shards(tensors, max_shard_size)
        if len(shards) == 1:
            save_file(client, bucket, key, tensors, metadata)
            remove(client, bucket, key.removesuffix(SUFFIX) + INDEX_SUFFIX)
        else:
            save_shards(client, bucket, key, tensors, metadata, shards)
            remove(client, bucket, key)


def load_safetensors(
    uri: str | os.PathLike[str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    names: Iterable[str] | None = None,
    device: torch.device | str | int | None = None,
    s3client_config: S3ClientConfig | None = None,
) -> dict[str, torch.Tensor]:
    """Load a safetensors model, all tensors of all its files at once, straight from the network into their memory.

    Args:
        uri: A file, an index (``....safetensors.index.json``), or a folder with one model.
        region: Region of the bucket; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        names: Only these tensors, and only the bytes of these are fetched; None for all.
        device: Where the tensors go; None is the CPU.
        s3client_config: Options of the client; None gives the defaults.

    Returns:
        The tensors by name, in the order of ``names``.

    Raises:
        ObjectNotFoundError: There is no such model, or one of its files is missing.
        S3Exception: Reading failed, or a file was replaced meanwhile.
        SafetensorsError: It is not a safetensors file, or damaged, or the folder does not hold one model.
        UnknownTensorError: The model has no tensor of that name.
        ValueError: The URI is not of that form.
    """
    names = None if names is None else check_names(names)
    client = _client(region, endpoint, s3client_config)
    with client, open_model(client, find_files(client, restore_s3_uri(uri)), names, device) as model:
        return model.get_tensors(names)


def open_safetensors(
    uri: str | os.PathLike[str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    device: torch.device | str | int | None = None,
    s3client_config: S3ClientConfig | None = None,
) -> S3Safetensors:
    """Open a safetensors model, to load its tensors one by one or in slices; reads only the headers.

    Args:
        uri: A file, an index (``....safetensors.index.json``), or a folder with one model.
        region: Region of the bucket; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        device: Where tensors go; None is the CPU.
        s3client_config: Options of the client; None gives the defaults.

    Returns:
        The model. Use it in a ``with`` block or close it.

    Raises:
        ObjectNotFoundError: There is no such model, or one of its files is missing.
        S3Exception: Reading failed.
        SafetensorsError: It is not a safetensors file, or damaged, or the folder does not hold one model.
        ValueError: The URI is not of that form.
    """
    client = _client(region, endpoint, s3client_config)
    try:
        return open_model(client, find_files(client, restore_s3_uri(uri)), None, device)
    except BaseException:
        client.close()
        raise


def _client(region: str | None, endpoint: str | None, config: S3ClientConfig | None) -> S3Client:
    return S3Client(region, endpoint=endpoint, user_agent=UserAgent(["md/safetensors"]), s3client_config=config)


def _parse(uri: str | os.PathLike[str]) -> S3Uri:
    parsed = parse_s3_uri(restore_s3_uri(uri))
    if not parsed.key or parsed.key.endswith("/"):
        raise ValueError(f"not the name of an object in S3: {os.fspath(uri)!r}; expected s3://bucket/name.safetensors")
    return parsed
