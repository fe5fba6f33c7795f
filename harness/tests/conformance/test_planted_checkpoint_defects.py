"""The laws of checkpoints can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

import io
import pickle
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import StorageReader, StorageWriter
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadItemType, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from s3torch.client import S3Client, S3ClientConfig, S3Exception, parse_s3_uri
from s3torch.client.memory import MemoryStore
from s3torch.dcp import S3CheckpointCatalog
from s3torch.harness.conformance import Arrangement, CheckpointConformance, EngineTap, MemoryArrangement
from s3torch.harness.conformance._checkpoint_laws import Checkpoints

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("in_continuous_integration")]


class Place:
    """A folder of the store, through a client that is tapped."""

    def __init__(self, client: S3Client, uri: str) -> None:
        self.client = client
        self.move(uri)

    def move(self, uri: str) -> None:
        self.uri = uri
        self.bucket, self.prefix = parse_s3_uri(uri)

    def put(self, name: str, data: bytes) -> None:
        with self.client.put_stream(self.bucket, f"{self.prefix}/{name}") as stream:
            stream.write(data)

    def read(self, name: str) -> bytes:
        return self.client.read(self.bucket, f"{self.prefix}/{name}")


class GoodWriter(StorageWriter):
    """The least that obeys the laws: an object for each item, named by the attempt, and the metadata last."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.attempt = self.new_attempt()

    def new_attempt(self) -> str:
        return uuid.uuid4().hex[:16]

    def reset(self, checkpoint_id: Any = None) -> None:
        if checkpoint_id:
            self.place.move(str(checkpoint_id))

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        pass

    def prepare_local_plan(self, plan: Any) -> Any:
        self.attempt = self.new_attempt()
        return plan

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        return plans

    def write_data(self, plan: Any, planner: Any) -> Future[list[WriteResult]]:
        results = []
        for number, item in enumerate(plan.items):
            name, data = f"__0_{self.attempt}_{number}.distcp", planner.resolve_data(item)
            if item.type is WriteItemType.BYTE_IO:
                content = data.getvalue()
            else:
                buffer = io.BytesIO()
                torch.save(self.prepare(data), buffer)
                content = buffer.getvalue()
            self.put(name, content)
            results.append(WriteResult(item.index, len(content), _StorageInfo(name, 0, len(content))))
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def prepare(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().resolve_conj().clone()

    def put(self, name: str, content: bytes) -> None:
        self.place.put(name, content)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        metadata.storage_data = {result.index: result.storage_data for rank in results for result in rank}
        self.commit(pickle.dumps(metadata))

    def commit(self, content: bytes) -> None:
        self.place.put(".metadata", content)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return str(checkpoint_id).startswith("s3://")

    def storage_meta(self) -> None:
        return None


class GoodReader(StorageReader):
    """Reads that, and what torch writes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.storage: dict[Any, Any] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        if checkpoint_id:
            self.place.move(str(checkpoint_id))

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        try:
            metadata: Metadata = pickle.loads(self.place.read(".metadata"))
        except Exception as error:
            raise RuntimeError(f"no readable checkpoint in {self.place.uri}") from error
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self.storage = metadata.storage_data

    def prepare_local_plan(self, plan: Any) -> Any:
        return plan

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        return plans

    def fetch(self, info: _StorageInfo) -> bytes:
        data = self.place.read(info.relative_path)[info.offset : info.offset + info.length]
        if len(data) != info.length:
            raise RuntimeError(f"{info.relative_path} is too short")
        return data

    def read_data(self, plan: Any, planner: Any) -> Future[None]:
        for item in plan.items:
            data = self.fetch(self.storage[item.storage_index])
            if item.type is LoadItemType.BYTE_IO:
                planner.load_bytes(item, io.BytesIO(data))
                continue
            tensor = torch.load(io.BytesIO(data), weights_only=True)
            for dimension, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                tensor = tensor.narrow(dimension, start, length)
            self.place_tensor(planner, item, tensor)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def place_tensor(self, planner: Any, item: Any, tensor: torch.Tensor) -> None:
        target = planner.resolve_tensor(item).detach()
        target.copy_(tensor)
        planner.commit_tensor(item, target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


class Storage:
    """What the laws are held against: the good ones, or one with a defect."""

    def __init__(
        self,
        writer: type[GoodWriter] = GoodWriter,
        reader: type[GoodReader] = GoodReader,
        catalog: type[S3CheckpointCatalog] = S3CheckpointCatalog,
    ) -> None:
        self.endpoint = f"memory://{uuid.uuid4().hex}"
        self.tap = EngineTap("memory")
        self.config = S3ClientConfig(engine=self.tap, part_size=5 << 20)
        self._writer, self._reader, self._catalog = writer, reader, catalog

    def checkpoints(self) -> Checkpoints:
        arrangement: Arrangement = MemoryArrangement(MemoryStore.named(self.endpoint))
        return Checkpoints(self, arrangement, self.tap)

    def place(self, uri: str) -> Place:
        return Place(S3Client("us-east-1", endpoint=self.endpoint, s3client_config=self.config), uri)

    def writer(self, uri: str) -> GoodWriter:
        return self._writer(self.place(uri))

    def reader(self, uri: str) -> GoodReader:
        return self._reader(self.place(uri))

    def catalog(self, uri: str) -> S3CheckpointCatalog:
        return self._catalog(uri, "us-east-1", endpoint=self.endpoint, s3client_config=self.config)


class TestGood(CheckpointConformance):
    """Without defects, the writer and the reader here obey all laws."""

    @pytest.fixture
    def storage(self) -> Storage:
        return Storage()

    @pytest.fixture
    def tap(self, storage: Storage) -> EngineTap:
        return storage.tap

    @pytest.fixture
    def arrangement(self, storage: Storage) -> Arrangement:
        return MemoryArrangement(MemoryStore.named(storage.endpoint))


class PublishesFirst(GoodWriter):
    """Puts some metadata before the data."""

    def prepare_local_plan(self, plan: Any) -> Any:
        self.commit(pickle.dumps(Metadata({}, storage_data={})))
        return super().prepare_local_plan(plan)


class RenamesMetadata(GoodWriter):
    """Commits as on a file system."""

    def commit(self, content: bytes) -> None:
        bucket, prefix = self.place.bucket, self.place.prefix
        self.place.put(".metadata.tmp", content)
        self.place.client.copy_object(bucket, f"{prefix}/.metadata.tmp", bucket, f"{prefix}/.metadata")
        self.place.client.delete_object(bucket, f"{prefix}/.metadata.tmp")


class DeletesBeforeCommit(GoodWriter):
    """Makes room for the new metadata first."""

    def commit(self, content: bytes) -> None:
        self.place.client.delete_object(self.place.bucket, f"{self.place.prefix}/.metadata")
        super().commit(content)


class CommitsTwice(GoodWriter):
    def commit(self, content: bytes) -> None:
        super().commit(content)
        super().commit(content)


class WritesAfterCommit(GoodWriter):
    def commit(self, content: bytes) -> None:
        super().commit(content)
        self.place.put("done", b"")


class ReusesNames(GoodWriter):
    def new_attempt(self) -> str:
        return "0" * 16


class NamesByWriter(GoodWriter):
    """Has names of its own, but the same for each save."""

    def prepare_local_plan(self, plan: Any) -> Any:
        return plan


class SwallowsErrors(GoodWriter):
    """As a thread does that nobody asks."""

    def put(self, name: str, content: bytes) -> None:
        try:
            super().put(name, content)
        except S3Exception:
            pass


class SwallowsInterrupts(GoodWriter):
    def put(self, name: str, content: bytes) -> None:
        try:
            super().put(name, content)
        except KeyboardInterrupt:
            super().put(name, content)


class ForgetsAFile(GoodWriter):
    def put(self, name: str, content: bytes) -> None:
        if not name.endswith("_2.distcp"):
            super().put(name, content)


class LeavesParts(GoodWriter):
    """Forgets about an upload that has failed."""

    def put(self, name: str, content: bytes) -> None:
        stream = self.place.client.put_stream(self.place.bucket, f"{self.place.prefix}/{name}")
        self.place.client.engine.abort_multipart = lambda *_: None  # type: ignore[method-assign]  # the defect
        with stream:
            stream.write(content)


class SavesViewsConjugated(GoodWriter):
    def prepare(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().resolve_conj().conj_physical().clone()


class ClearsUpOthers(GoodWriter):
    """Deletes what other saves have written before it writes its own."""

    def prepare_local_plan(self, plan: Any) -> Any:
        keys = [
            info.key
            for page in self.place.client.list_objects(self.place.bucket, f"{self.place.prefix}/")
            for info in page.object_info
            if not info.key.endswith(".metadata")
        ]
        self.place.client.delete_objects(self.place.bucket, keys)
        return super().prepare_local_plan(plan)


class LoadsNothing(GoodReader):
    def place_tensor(self, planner: Any, item: Any, tensor: torch.Tensor) -> None:
        planner.commit_tensor(item, planner.resolve_tensor(item).detach())


class ReplacesTensors(GoodReader):
    """Writes into memory of its own and leaves the target alone where the layout is not plain."""

    def place_tensor(self, planner: Any, item: Any, tensor: torch.Tensor) -> None:
        target = planner.resolve_tensor(item).detach()
        planner.commit_tensor(item, target.contiguous().copy_(tensor))


class HidesErrors(GoodReader):
    """Takes what cannot be read for zeros."""

    def fetch(self, info: _StorageInfo) -> bytes:
        try:
            return super().fetch(info)
        except (S3Exception, RuntimeError):
            buffer = io.BytesIO()
            torch.save(torch.zeros(5, 7), buffer)
            return buffer.getvalue()


class SaysNothing(GoodReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        try:
            return super().read_metadata()
        except RuntimeError:
            raise RuntimeError("failed") from None


class TouchesTheStore(GoodReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        self.place.put("last-read", b"now")
        return super().read_metadata()


class CountsAllFolders(S3CheckpointCatalog):
    """Takes a folder with data for a checkpoint."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        store = self._store

        def committed() -> list[tuple[str, int]]:
            found: dict[str, int] = {}
            for item in store.objects():
                found.setdefault(item.key[len(store.folder.prefix) :].split("/")[0], item.last_modified)
            return list(found.items())

        store.committed = committed  # type: ignore[method-assign]  # the defect


class SortsAsText(S3CheckpointCatalog):
    def list(self) -> Any:
        return sorted(super().list(), key=lambda entry: entry.name)


class PrunesTheNewest(S3CheckpointCatalog):
    def prune(self, keep_last: int | None = None, keep_every: int | None = None, dry_run: bool = False) -> Any:
        if keep_last is None and keep_every is not None and keep_every > 0 and not dry_run:
            return self._remove([e for e in self.list() if e.step is not None and e.step % keep_every])
        return super().prune(keep_last, keep_every, dry_run)


class DeletesDataFirst(S3CheckpointCatalog):
    def _remove(self, entries: Any) -> Any:
        for entry in entries:
            keys = self._contents(entry) or []
            self._store.delete([key for key in keys if not key.endswith(".metadata")])
            self._store.delete([key for key in keys if key.endswith(".metadata")])
        return list(entries)


class DeletesMetadataOnly(S3CheckpointCatalog):
    def _remove(self, entries: Any) -> Any:
        self._store.delete([f"{self._store.folder.key(entry.name)}/.metadata" for entry in entries])
        return list(entries)


class DeletesAnything(S3CheckpointCatalog):
    def delete(self, name: str, *, allow_newest: bool = True) -> Any:
        return super().delete(name, allow_newest=True)


class TakesAllForLeftovers(S3CheckpointCatalog):
    """Looks at no metadata."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._store.read_manifests = lambda _: []  # type: ignore[assignment,method-assign]  # the defect


class Impatient(S3CheckpointCatalog):
    def leftovers(self, older_than: timedelta = timedelta(0)) -> Any:
        return super().leftovers(timedelta(0))


class ClearsAllFiles(S3CheckpointCatalog):
    def remove_leftovers(self, older_than: timedelta = timedelta(days=1)) -> Any:
        kept = {entry.name for entry in self.list()}
        keys = [item.key for item in self._store.objects()]
        self._store.delete([key for key in keys if key[len(self._store.folder.prefix) :].split("/")[0] not in kept])
        return super().remove_leftovers(older_than)


LAWS = CheckpointConformance()
WRITERS: list[tuple[type[GoodWriter], Callable[..., None], tuple[Any, ...]]] = [
    (PublishesFirst, LAWS.test_nothing_exists_before_the_end, ()),
    (PublishesFirst, LAWS.test_the_commit_is_one_put, ()),
    (PublishesFirst, LAWS.test_every_request_of_a_save_may_fail, (False, False)),
    (RenamesMetadata, LAWS.test_the_commit_is_one_put, ()),
    (DeletesBeforeCommit, LAWS.test_every_request_of_a_save_may_fail, (False, True)),
    (DeletesBeforeCommit, LAWS.test_ctrl_c_is_passed_on, ()),
    (CommitsTwice, LAWS.test_the_commit_is_one_put, ()),
    (WritesAfterCommit, LAWS.test_nothing_exists_before_the_end, ()),
    (ReusesNames, LAWS.test_no_name_is_written_twice, ()),
    (ReusesNames, LAWS.test_every_request_of_a_save_may_fail, (False, True)),
    (ReusesNames, LAWS.test_a_save_may_be_overtaken, ()),
    (NamesByWriter, LAWS.test_no_name_is_written_twice, ()),
    (SwallowsErrors, LAWS.test_every_request_of_a_save_may_fail, (False, False)),
    (SwallowsErrors, LAWS.test_an_interrupted_first_save_does_not_exist, (False,)),
    (LeavesParts, LAWS.test_an_interrupted_first_save_does_not_exist, (False,)),
    (SwallowsInterrupts, LAWS.test_ctrl_c_is_passed_on, ()),
    (ForgetsAFile, LAWS.test_loads_what_was_saved, ("small",)),
    (ForgetsAFile, LAWS.test_the_newest_save_is_what_is_loaded, ()),
    (SavesViewsConjugated, LAWS.test_loads_what_was_saved, ("views",)),
    (ClearsUpOthers, LAWS.test_every_request_of_a_save_may_fail, (False, True)),
    (ClearsUpOthers, LAWS.test_a_save_may_be_overtaken, ()),
]
READERS: list[tuple[type[GoodReader], Callable[..., None], tuple[Any, ...]]] = [
    (LoadsNothing, LAWS.test_loads_what_was_saved, ("shapes",)),
    (LoadsNothing, LAWS.test_serves_models_and_optimizers, ()),
    (ReplacesTensors, LAWS.test_loads_into_the_memory_it_is_given, ()),
    (HidesErrors, LAWS.test_damaged_data_are_an_error, ()),
    (HidesErrors, LAWS.test_every_request_of_a_load_may_fail, (False,)),
    (SaysNothing, LAWS.test_a_checkpoint_that_is_not_there_is_an_error, ()),
    (SaysNothing, LAWS.test_damaged_metadata_are_an_error, ()),
    (TouchesTheStore, LAWS.test_loading_changes_nothing, ()),
]
CATALOGS: list[tuple[type[S3CheckpointCatalog], Callable[..., None], tuple[Any, ...]]] = [
    (CountsAllFolders, LAWS.test_lists_the_committed, ()),
    (CountsAllFolders, LAWS.test_a_save_under_way_is_no_checkpoint_and_survives_pruning, ()),
    (SortsAsText, LAWS.test_lists_the_committed, ()),
    (PrunesTheNewest, LAWS.test_never_prunes_the_newest, ()),
    (DeletesDataFirst, LAWS.test_every_request_of_pruning_may_fail, (False,)),
    (DeletesMetadataOnly, LAWS.test_prunes_the_old, ()),
    (DeletesMetadataOnly, LAWS.test_deletes_one, ()),
    (DeletesAnything, LAWS.test_deletes_one, ()),
    (TakesAllForLeftovers, LAWS.test_finds_what_dead_saves_left, ()),
    (Impatient, LAWS.test_leaves_the_young_alone, ()),
    (Impatient, LAWS.test_a_save_under_way_is_no_checkpoint_and_survives_pruning, ()),
    (ClearsAllFiles, LAWS.test_clearing_up_spares_what_others_keep, ()),
]


def broken_by(law: Callable[..., None], storage: Storage, arguments: tuple[Any, ...], *, catalog: bool) -> str | None:
    """Hold a law against a storage; return what it finds."""
    checkpoints = storage.checkpoints()
    subjects = [checkpoints, storage.catalog(checkpoints.uri("runs"))] if catalog else [checkpoints]
    try:
        law(*subjects, *arguments)
    except BaseException as error:  # noqa: BLE001  # a failed assertion, pytest.raises, or whatever torch makes of it
        return repr(error)
    return None


def check(defect: Storage, law: Callable[..., None], arguments: tuple[Any, ...], *, catalog: bool = False) -> None:
    assert broken_by(law, Storage(), arguments, catalog=catalog) is None
    assert broken_by(law, defect, arguments, catalog=catalog) is not None, f"{law.__name__} does not notice it"


def name(item: object) -> str | None:
    return getattr(item, "__name__", None)


@pytest.mark.parametrize(("defect", "law", "arguments"), WRITERS, ids=name)
def test_a_defect_of_a_writer_is_found(
    defect: type[GoodWriter], law: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    check(Storage(writer=defect), law, arguments)


@pytest.mark.parametrize(("defect", "law", "arguments"), READERS, ids=name)
def test_a_defect_of_a_reader_is_found(
    defect: type[GoodReader], law: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    check(Storage(reader=defect), law, arguments)


@pytest.mark.parametrize(("defect", "law", "arguments"), CATALOGS, ids=name)
def test_a_defect_of_a_catalog_is_found(
    defect: type[S3CheckpointCatalog], law: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    check(Storage(catalog=defect), law, arguments, catalog=True)
