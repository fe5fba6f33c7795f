"""Whatever is wrong with a checkpoint is one clear error that names it and says what to do."""

from __future__ import annotations

import inspect
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.loading import FOLDER, URI, Place, load
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata

from s3torch.client import AccessDeniedError, BucketNotFoundError, S3ClientConfig, S3ConnectionError
from s3torch.client.transfers import DoneTransfer
from s3torch.dcp import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    CorruptCheckpointError,
    S3StorageReader,
)

METADATA = f"{FOLDER}/.metadata"


@pytest.fixture
def place() -> Place:
    return Place()


def state() -> dict[str, Any]:
    return {"value": torch.zeros(4)}


def check(place: Place, kind: type[BaseException], *words: str, uri: str = URI) -> BaseException:
    """Both `dcp.load` and `read_metadata` raise the error, with its type."""
    with pytest.raises(kind) as direct:
        place.reader(uri).read_metadata()
    with pytest.raises(kind) as loaded:
        load(state(), place.reader(uri))
    for caught in (direct, loaded):
        assert uri in str(caught.value)
        for word in words:
            assert word in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(loaded.value)), kind)  # it crosses to the other ranks
    return loaded.value


def test_nothing_there(place: Place) -> None:
    error = check(place, CheckpointNotFoundError, "nothing is stored there")
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, CheckpointError)


def test_an_attempt_that_was_never_committed(place: Place) -> None:
    place.save({"value": torch.randn(4)})
    place.store.remove("bucket", [METADATA])
    check(place, CheckpointNotFoundError, "never committed", "earlier checkpoint")


def test_a_folder_of_checkpoints(place: Place) -> None:
    place.save({"value": torch.randn(4)}, f"{URI}/step=3")
    check(place, CheckpointNotFoundError, "step=3")


def test_something_else_there(place: Place) -> None:
    place.put(f"{FOLDER}/notes.txt", b"text")
    check(place, CheckpointNotFoundError, "Check the path")


def test_no_bucket(place: Place) -> None:
    with pytest.raises(BucketNotFoundError):
        place.reader("s3://nowhere/run").read_metadata()
    with pytest.raises(BucketNotFoundError, match="s3://nowhere/run"):
        load(state(), place.reader("s3://nowhere/run"))


def test_no_access(place: Place) -> None:
    def deny(*_: Any, **__: Any) -> Any:
        return DoneTransfer(error=AccessDeniedError("denied", bucket="bucket", key=METADATA, operation="GetObject"))

    place.engine.start_get = deny  # type: ignore[method-assign]  # the engine under test is this one method
    with pytest.raises(AccessDeniedError, match=URI):
        load(state(), place.reader())


def test_no_store() -> None:
    config = S3ClientConfig(max_attempts=1, unsigned=True, force_path_style=True)
    reader = S3StorageReader("us-east-1", URI, config, endpoint="http://127.0.0.1:9")
    with pytest.raises(S3ConnectionError):
        load(state(), reader)


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_cut_short(place: Place, left: int) -> None:
    place.save({"value": torch.randn(4)})
    place.put(METADATA, place.data(METADATA)[:left])
    check(place, CorruptCheckpointError, ".metadata", "another checkpoint")


@pytest.mark.parametrize("data", [b"text", b"\x00" * 1000, pickle.dumps({"value": 3}), b"\x80\x05."])
def test_no_metadata_at_all(place: Place, data: bytes) -> None:
    place.put(METADATA, data)
    check(place, CorruptCheckpointError, ".metadata")


def test_no_storage_data(place: Place) -> None:
    place.put(METADATA, pickle.dumps(Metadata({})))
    check(place, CorruptCheckpointError, "where the data lie")


def test_an_item_without_a_place(place: Place) -> None:
    described = TensorStorageMetadata(TensorProperties(), torch.Size([4]), [])
    place.save({"value": torch.randn(4)})
    metadata = pickle.loads(place.data(METADATA))
    metadata.storage_data = {MetadataIndex("other"): next(iter(metadata.storage_data.values()))}
    metadata.state_dict_metadata["other"] = described
    place.put(METADATA, pickle.dumps(metadata))
    with pytest.raises(CorruptCheckpointError, match="value") as caught:
        load(state(), place.reader())
    assert URI in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [(b"StorageMeta", b"StorageMoon"), (b"checkpoint.metadata", b"checkpoint.metamoon")],
    ids=["class", "module"],
)
def test_a_newer_torch(place: Place, names: tuple[bytes, bytes]) -> None:
    place.save({"value": torch.randn(4)})
    metadata = pickle.dumps(pickle.loads(place.data(METADATA)), protocol=2)  # names lie in it without their lengths
    assert names[0] in metadata
    place.put(METADATA, metadata.replace(*names))
    check(place, CheckpointVersionError, "newer torch", torch.__version__)


@pytest.mark.skipif(
    "use_collectives" not in inspect.signature(dcp.save).parameters, reason="this torch always plans together"
)
def test_metadata_of_each_rank(place: Place) -> None:
    saved = {"value": torch.randn(4)}
    place.save(saved)
    place.put(f"{FOLDER}/__0.metadata", place.data(METADATA))
    place.store.remove("bucket", [METADATA])
    assert torch.equal(load(state(), place.reader())["value"], saved["value"])
    with pytest.raises(CheckpointNotFoundError, match="without collectives"):
        place.reader().read_metadata()
    with pytest.raises(CheckpointNotFoundError):
        place.reader().read_metadata(rank=3)
    assert place.reader().read_metadata(rank=0).state_dict_metadata


def test_metadata_without_storage_meta(place: Place) -> None:
    saved = {"value": torch.randn(4)}
    place.save(saved)
    metadata = pickle.loads(place.data(METADATA))
    metadata.storage_meta = None
    place.put(METADATA, pickle.dumps(metadata))
    reader = place.reader()
    assert torch.equal(load(state(), reader)["value"], saved["value"])
    meta = reader.read_metadata().storage_meta
    assert meta is not None
    assert meta.load_id == reader.load_id


def test_a_planner_that_looks_at_metadata_first_sees_the_reason(place: Place) -> None:
    class Planner(dcp.DefaultLoadPlanner):
        def set_up_planner(self, state_dict: Any, metadata: Any = None, is_coordinator: bool = False) -> None:
            assert metadata.state_dict_metadata
            super().set_up_planner(state_dict, metadata, is_coordinator)

    with warnings.catch_warnings(), pytest.raises(CheckpointNotFoundError):
        load(state(), place.reader(), planner=Planner())
