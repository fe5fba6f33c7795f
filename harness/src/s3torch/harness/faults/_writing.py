"""Subjects that write, and how each finds out what is there afterwards."""

from __future__ import annotations

import warnings

import torch.distributed.checkpoint as dcp

from s3torch.checkpoint import S3Checkpoint
from s3torch.dcp import S3StorageReader, S3StorageWriter
from s3torch.harness.faults.contents import (
    MIB,
    WRITTEN,
    blank_state,
    is_state,
    load_bytes,
    make_state,
    new_bytes,
    old_bytes,
)
from s3torch.harness.faults.place import Place
from s3torch.writer import open_writer

_ONE_REQUEST = 1 * MIB
_PARTS = 11 * MIB
_FILE = 6 * MIB
_STEP = 700_000


def put(place: Place) -> None:
    """One request."""
    with place.client() as client:
        client.put(place.bucket, place.key(WRITTEN), new_bytes(_ONE_REQUEST))


def put_stream(place: Place) -> None:
    """A stream of some parts, written in small steps."""
    data = new_bytes(_PARTS)
    with place.client() as client, client.put_stream(place.bucket, place.key(WRITTEN)) as stream:
        for start in range(0, len(data), _STEP):
            stream.write(data[start : start + _STEP])
            if start <= len(data) // 2 < start + _STEP:
                place.halfway()


def writer(place: Place) -> None:
    """S3Writer, one large write."""
    data = memoryview(new_bytes(_FILE))
    with place.client() as client, open_writer(client, place.bucket, place.key(WRITTEN)) as file:
        file.write(data[:1000])
        file.write(data[1000:])


def checkpoint_save(place: Place) -> None:
    """S3Checkpoint.save."""
    S3Checkpoint(**place.options).save(make_state(1), place.uri(WRITTEN))


def dcp_save(place: Place) -> None:
    """torch.distributed.checkpoint.save."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a job of one process
        dcp.save(make_state(1), storage_writer=S3StorageWriter(path=place.uri(WRITTEN), **place.options))


def _bytes_there(place: Place, size: int) -> str:
    found = place.fetch(place.key(WRITTEN))
    if found == old_bytes():
        return "old"
    return "new" if found == new_bytes(size) else f"{len(found)} bytes that nobody has written"


def see_put(place: Place) -> str:
    """Say what `put` has left: ``old``, ``new``, or what is wrong."""
    return _bytes_there(place, _ONE_REQUEST)


def see_put_stream(place: Place) -> str:
    """Say what `put_stream` has left."""
    return _bytes_there(place, _PARTS)


def see_writer(place: Place) -> str:
    """Say what `writer` has left."""
    return _bytes_there(place, _FILE)


def see_checkpoint(place: Place) -> str:
    """Say what `checkpoint_save` has left."""
    state = load_bytes(place.fetch(place.key(WRITTEN)))
    return ("old", "new")[state["step"]] if is_state(state) else "a state that nobody has saved"


def see_dcp(place: Place) -> str:
    """Say what `dcp_save` has left."""
    state = blank_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, storage_reader=S3StorageReader(path=place.uri(WRITTEN), **place.options))
    return ("old", "new")[state["step"]] if is_state(state) else "a state that nobody has saved"
