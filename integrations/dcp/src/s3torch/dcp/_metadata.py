"""Reading what a checkpoint says of itself, with one clear error for each way in which that can fail."""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta

from s3torch.client import BucketNotFoundError, ObjectNotFoundError, S3Client, S3Exception, S3NotFoundError
from s3torch.dcp._folder import METADATA, Folder
from s3torch.dcp.errors import CheckpointError, CheckpointNotFoundError, CheckpointVersionError, CorruptCheckpointError

__all__ = ["metadata_name", "read_metadata"]


def metadata_name(rank: int | None = None) -> str:
    """Return the name of the object that describes a checkpoint.

    Args:
        rank: The rank, where each has saved a description of its own; None for the one of all.
    """
    return METADATA if rank is None else f"__{rank}{METADATA}"


def read_metadata(client: S3Client, folder: Folder, rank: int | None = None) -> Metadata:
    """Fetch a checkpoint's metadata and check that it describes one.

    It is a pickle and runs what it names, as everywhere in torch: read only what you trust.

    Args:
        client: Where to read.
        folder: The checkpoint.
        rank: Whose metadata, where each rank has saved its own.

    Returns:
        The metadata.

    Raises:
        CheckpointNotFoundError: It is not there.
        CorruptCheckpointError: It is damaged, or not a checkpoint's.
        CheckpointVersionError: It names what this torch or this environment does not have.
        S3Exception: The store refused.
    """
    name = metadata_name(rank)
    try:
        data = client.read(folder.bucket, folder.key(name))
    except BucketNotFoundError:
        raise
    except S3NotFoundError as error:
        raise _missing(client, folder, name, rank) from error
    metadata = _check(_unpickle(data, folder, name), folder, name)
    if getattr(metadata, "storage_meta", None) is None:
        metadata.storage_meta = StorageMeta()
    return metadata


def _missing(client: S3Client, folder: Folder, name: str, rank: int | None) -> CheckpointError:
    """Say what is there instead."""
    try:
        page = next(client.list_objects(folder.bucket, folder.prefix, max_keys=100), None)
    except ObjectNotFoundError:
        page = None
    except S3Exception:  # listing may be forbidden where reading is not
        return CheckpointNotFoundError(f"there is no checkpoint at {folder}: it has no {name}. Check the path")
    names = [info.key[len(folder.prefix) :] for info in page.object_info] if page is not None else []
    if not names:
        return CheckpointNotFoundError(f"there is no checkpoint at {folder}: nothing is stored there. Check the path")
    if METADATA in names:
        return CheckpointNotFoundError(
            f"the checkpoint {folder} has no {name}: it was saved for all ranks together. Load it with collectives"
        )
    if rank is None and any(metadata_name(0) == each for each in names):
        return CheckpointNotFoundError(
            f"the checkpoint {folder} has no {name}, but each rank's own: it was saved without collectives."
            " Load it by as many ranks as have saved it"
        )
    nested = sorted({each.partition("/")[0] for each in names if each.endswith(f"/{METADATA}")})
    if nested:
        return CheckpointNotFoundError(
            f"there is no checkpoint at {folder}, but there are some below it: {', '.join(nested[:5])}."
            " Add one to the path"
        )
    if any(each.endswith(".distcp") for each in names):
        return CheckpointNotFoundError(
            f"there is no checkpoint at {folder}: data was written, but never committed ({name} is missing)."
            " The save is still running or was interrupted: load an earlier checkpoint"
        )
    return CheckpointNotFoundError(
        f"there is no checkpoint at {folder}: other objects lie there, but no {name}. Check the path"
    )


def _unpickle(data: bytes, folder: Folder, name: str) -> Any:
    try:
        return pickle.load(BytesIO(data))  # noqa: S301  # the format; the documentation says to read only what you trust
    except (AttributeError, ImportError) as error:
        raise CheckpointVersionError(
            f"{name} of the checkpoint {folder} names something that is missing here ({error}). It was written by a"
            f" newer torch than this one ({torch.__version__}), or with a package that is not installed: load it with"
            " the versions it was saved with"
        ) from error
    except Exception as error:
        raise CorruptCheckpointError(
            f"{name} of the checkpoint {folder} cannot be read ({type(error).__name__}: {error}; {len(data)} bytes)."
            " It is cut short or damaged, or no checkpoint's: load another checkpoint"
        ) from error


def _check(metadata: Any, folder: Folder, name: str) -> Metadata:
    def corrupt(what: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{name} of the checkpoint {folder} {what}. It was not written by a distributed checkpoint's storage"
            " writer, or it is damaged: load another checkpoint"
        )

    if not isinstance(metadata, Metadata):
        raise corrupt(f"holds a {type(metadata).__name__} and no metadata")
    if not isinstance(metadata.state_dict_metadata, dict):
        raise corrupt("does not say what was saved")
    storage = metadata.storage_data
    if not isinstance(storage, dict):
        raise corrupt("does not say where the data lie")
    for index, info in storage.items():
        if not isinstance(index, MetadataIndex):
            raise corrupt(f"has the entry {index!r} where items are expected")
        if isinstance(info, _StorageInfo) and not (info.offset >= 0 and info.length >= 0):
            raise corrupt(f"places {index.fqn} at {info.offset}, {info.length} bytes long")
    return metadata
