"""Sharded checkpoints: the tensors through torch's distributed checkpoint, and with them what Lightning keeps beside.

Lightning stores the rest (the loops, the callbacks, ...) as ``meta.pt`` in the folder. A second object could be of
another save than the tensors are. So the rest is one more item of the distributed checkpoint, which the one PUT of
``.metadata`` commits; ``meta.pt`` is there for stock Lightning, which reads a folder that was downloaded.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.nn import Module
from torch.optim import Optimizer

from s3torch.client import S3Client, S3Exception, S3NotFoundError, S3Uri
from s3torch.dcp import S3StorageReader, S3StorageWriter
from s3torch.dcp.manifest import ManifestError, read_references
from s3torch.lightning import _objects
from s3torch.lightning._agreement import ProcessGroup, do_once
from s3torch.lightning._states import get_state, set_shards
from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["load_sharded", "save_full", "save_sharded"]

_log = logging.getLogger(__name__)

_REST_ITEM = "s3torch_lightning_meta"
_REST_FILE = "meta.pt"


@dataclass(frozen=True, slots=True)
class _Replaced:
    """A checkpoint that a save will replace."""

    names: frozenset[str]
    """Its data objects."""
    has_rest: bool
    """Whether it does without ``meta.pt``."""


def save_full(plugin: S3LightningCheckpoint, place: S3Uri, checkpoint: dict[str, Any]) -> None:
    """Save a checkpoint as one object, in place of a sharded one, too.

    Args:
        plugin: How to save it.
        place: Where.
        checkpoint: What.

    Raises:
        S3Exception: It could not be saved.
    """
    plugin.save_checkpoint(checkpoint, str(place))
    if _objects.is_sharded(plugin.client, place):
        plugin.wait()
        _objects.remove_folder(plugin.client, place)


def save_sharded(
    plugin: S3LightningCheckpoint,
    group: ProcessGroup,
    place: S3Uri,
    writer: S3StorageWriter,
    state: dict[str, Any],
    rest: dict[str, Any],
) -> None:
    """Save a checkpoint as a folder, each process its shards; it exists once all is written.

    Args:
        plugin: The plugin.
        group: The processes; all call this.
        place: The folder.
        writer: Writes to it.
        state: The model's and the optimizers' states.
        rest: All else; that of the first process is saved.

    Raises:
        S3Exception: The store failed. So or in torch's ``CheckpointException``, every process raises.
    """
    client = plugin.client
    content = _to_bytes(rest) if group.is_global_zero else b""
    file = f"{place.key}/{_REST_FILE}"
    replaced: _Replaced | None = None

    def prepare() -> None:
        nonlocal replaced
        plugin.wait()
        replaced = _look_at(client, place)
        if replaced is None:
            client.put(place.bucket, file, content)
        elif replaced.has_rest:
            # Neither save's file may stand beside the other one's tensors.
            client.delete_object(place.bucket, file)

    def finish() -> None:
        if replaced is not None:
            client.put(place.bucket, file, content)
            _drop(client, place, replaced)
        client.delete_object(place.bucket, place.key)  # a full checkpoint that this one replaces

    do_once(group, prepare)
    if group.is_global_zero:
        state = {**state, _REST_ITEM: torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    dcp.save(state, storage_writer=writer)
    do_once(group, finish)


def load_sharded(
    plugin: S3LightningCheckpoint,
    place: S3Uri,
    reader: S3StorageReader,
    name: str,
    model: Module,
    optimizers: Mapping[str, Optimizer],
    *,
    strict: bool,
    weights_only: bool | None,
) -> dict[str, Any]:
    """Load a checkpoint from its folder into a model and its optimizers.

    Args:
        plugin: The plugin.
        place: The folder.
        reader: Reads from it.
        name: The model's name.
        model: The model; its tensors are filled.
        optimizers: Its optimizers, by name.
        strict: Whether the checkpoint must hold all that the model has.
        weights_only: As for the plugin, for the rest.

    Returns:
        The rest.

    Raises:
        CheckpointError: The checkpoint is damaged.
        KeyError: It holds no state of an optimizer.
        S3Exception: The store failed.
    """
    metadata = reader.read_metadata()
    for key in optimizers:
        if not any(stored.startswith(f"{key}.") for stored in metadata.state_dict_metadata):
            raise KeyError(
                f"the checkpoint {place} has no state of the optimizer {key!r}: it holds only the model, as with"
                " save_weights_only=True"
            )
    state: dict[str, Any] = {name: get_state(model, model, is_full=False)}
    state |= {key: get_state(model, optimizer, is_full=False) for key, optimizer in optimizers.items()}
    size = _rest_size(metadata)
    if size is not None:
        state[_REST_ITEM] = torch.empty(size, dtype=torch.uint8)
    # torch drops tensors of which a process has no shard while it "flattens" them, and then takes the checkpoint for
    # one of its own old format.
    planner = DefaultLoadPlanner(flatten_sharded_tensors=False, allow_partial_load=not strict)
    dcp.load(state, storage_reader=reader, planner=planner)
    set_shards(model, optimizers, name, state, strict)
    if size is None:  # saved by Lightning itself
        return plugin.load_checkpoint(str(S3Uri(place.bucket, f"{place.key}/{_REST_FILE}")), None, weights_only)
    rest: dict[str, Any] = torch.load(
        io.BytesIO(state[_REST_ITEM].numpy().tobytes()), weights_only=weights_only is None or weights_only
    )
    return rest


def _to_bytes(rest: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return buffer.getvalue()


def _rest_size(metadata: Metadata) -> int | None:
    stored = metadata.state_dict_metadata.get(_REST_ITEM)
    return stored.size.numel() if isinstance(stored, TensorStorageMetadata) else None


def _look_at(client: S3Client, place: S3Uri) -> _Replaced | None:
    """Read which objects the checkpoint in the folder has; None where there is no checkpoint."""
    try:
        data = client.read(place.bucket, f"{place.key}/{_objects.METADATA}")
    except S3NotFoundError:
        return None
    try:
        names = read_references(data)
    except ManifestError as error:
        _log.warning("%s: %s; its objects are left where they are", place, error)
        names = frozenset()
    return _Replaced(names, _REST_ITEM.encode() in data)


def _drop(client: S3Client, place: S3Uri, replaced: _Replaced) -> None:
    """Delete the data of the checkpoint that was replaced; the new one is whole without that."""
    try:
        now = _look_at(client, place)
        if now is not None and now.names:
            gone = sorted(replaced.names - now.names)
            _objects.remove_keys(client, place.bucket, [f"{place.key}/{name}" for name in gone])
    except S3Exception as error:
        _log.warning("the data of the checkpoint that %s replaces could not be deleted: %s", place, error)
