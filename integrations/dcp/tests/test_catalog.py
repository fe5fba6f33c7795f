"""The catalogue on a store whose clock the tests set."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

import pytest
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from s3torch.client import (
    AccessDeniedError,
    BucketNotFoundError,
    DeleteError,
    EngineContext,
    PutOptions,
    S3ClientConfig,
    ServerError,
)
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.dcp.catalog import Leftover, S3CheckpointCatalog
from s3torch.dcp.errors import CheckpointError, CheckpointNotFoundError

HOUR = 3600
NOTHING = timedelta(0)


class Clock:
    """The store's clock."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Engine(MemoryEngine):
    """Can do something before a request, such as fail."""

    def __init__(self, context: EngineContext, store: MemoryStore) -> None:
        super().__init__(context, store)
        self.deleted: list[list[str]] = []
        self.before_delete: Callable[[int], None] = lambda number: None
        self.refused: frozenset[str] = frozenset()

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        self.before_delete(len(self.deleted))
        self.deleted.append(list(keys))
        super().delete_many(bucket, [key for key in keys if key not in self.refused])
        return [DeleteError(key, "AccessDenied", "not you") for key in keys if key in self.refused]


class Place:
    """A bucket and what the tests put there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.store.create_bucket("bucket")
        self.engine = Engine(EngineContext("us-east-1", None, "test", S3ClientConfig()), self.store)

    def catalog(self, uri: str = "s3://bucket/runs") -> S3CheckpointCatalog:
        catalog = S3CheckpointCatalog(uri, s3client_config=S3ClientConfig(engine=lambda _: self.engine))
        catalog._clock = self.clock
        return catalog

    def put(self, key: str, data: bytes = b"data") -> None:
        self.store.write("bucket", key, data, PutOptions())

    def commit(self, folder: str, *names: str) -> None:
        """Put metadata that refer to data files."""
        storage = {MetadataIndex(name): _StorageInfo(name, 0, 4) for name in names}
        self.put(f"{folder}/.metadata", pickle.dumps(Metadata({}, storage_data=storage)))

    def save(self, folder: str, *names: str) -> None:
        """Put a whole checkpoint, a second after the one before."""
        self.clock.now += 1
        for name in names or ("a_0.distcp",):
            self.put(f"{folder}/{name}")
        self.commit(folder, *(names or ("a_0.distcp",)))

    def stored(self) -> list[str]:
        return sorted(self.store.objects("bucket"))


@pytest.fixture
def place() -> Place:
    return Place()


def names(found: Sequence[Leftover]) -> list[str]:
    return [item.uri.removeprefix("s3://bucket/runs/") for item in found]


def test_an_empty_folder_has_no_checkpoints(place: Place) -> None:
    assert place.catalog().list() == []
    assert place.catalog().latest() is None
    assert place.catalog().prune(keep_last=1) == []
    assert place.catalog().leftovers(NOTHING) == []


def test_only_committed_folders_count(place: Place) -> None:
    place.save("runs/step-1")
    place.put("runs/step-2/a_0.distcp")
    place.put("runs/step-3.metadata")
    place.put("runs/deep/er/.metadata")
    place.put("runs/.metadata/x")
    place.put("runs//.metadata")
    place.save("elsewhere/step-9")
    place.save("runs-too/step-9")
    [entry] = place.catalog().list()
    assert (entry.name, entry.uri, entry.step) == ("step-1", "s3://bucket/runs/step-1", 1)
    assert entry.committed == datetime.fromtimestamp(1_800_000_001, tz=timezone.utc)
    assert [entry.name for entry in place.catalog("s3://bucket/runs/deep/").list()] == ["er"]
    assert [entry.name for entry in place.catalog("s3://bucket").list()] == []
    place.save("top")
    assert [entry.uri for entry in place.catalog("s3://bucket").list()] == ["s3://bucket/top"]


def test_the_order_is_that_of_commits_then_of_names(place: Place) -> None:
    for name in ("step-10", "step-2", "b", "a"):
        place.commit(f"runs/{name}")
    place.clock.now -= 60
    place.commit("runs/step-99")
    assert [entry.name for entry in place.catalog().list()] == ["step-99", "a", "b", "step-2", "step-10"]
    place.clock.now += 120
    place.commit("runs/step-99")
    latest = place.catalog().latest()
    assert latest is not None
    assert latest.name == "step-99"


@pytest.mark.parametrize("name", [" ", "a b", "..", ".", "%20", "a+b&c=d#?", "日本", "[bold]", "😀", "x" * 900])
def test_names_may_be_anything(place: Place, name: str) -> None:
    place.save(f"runs/{name}")
    place.save("runs/newer")
    entry = place.catalog().list()[0]
    assert (entry.name, entry.uri) == (name, f"s3://bucket/runs/{name}")
    assert place.catalog().delete(name) == entry
    assert [key for key in place.stored() if "newer" not in key] == []


def test_more_checkpoints_than_fit_a_page(place: Place) -> None:
    for number in range(1200):
        place.commit(f"runs/step-{number}")
    catalog = place.catalog()
    assert [entry.step for entry in catalog.list()] == list(range(1200))
    assert len(catalog.prune(keep_last=10)) == 1190
    assert [entry.step for entry in catalog.list()] == list(range(1190, 1200))


def test_prune_removes_whole_folders(place: Place) -> None:
    for step in range(1, 6):
        place.save(f"runs/step-{step}00", "a_0.distcp", "01/epoch_3/__1_0.distcp")
        place.put(f"runs/step-{step}00/meta.pt")
    before = place.stored()
    would = place.catalog().prune(keep_last=1, keep_every=200, dry_run=True)
    assert place.stored() == before
    removed = place.catalog().prune(keep_last=1, keep_every=200)
    assert removed == would
    assert [entry.step for entry in removed] == [100, 300]
    assert {key.split("/")[1] for key in place.stored()} == {"step-200", "step-400", "step-500"}
    assert place.catalog().prune(keep_last=1, keep_every=200) == []


def test_prune_needs_a_rule(place: Place) -> None:
    with pytest.raises(ValueError, match="keep_last or keep_every"):
        place.catalog().prune()


def test_metadata_goes_first_and_data_last(place: Place) -> None:
    place.save("runs/step-1", "a_0.distcp", "-before.distcp")
    place.put("runs/step-1/meta.pt")
    place.put("runs/step-1/__0.metadata")
    place.save("runs/step-2")
    place.catalog().prune(keep_last=1)
    first, second = place.engine.deleted
    assert sorted(first) == ["runs/step-1/.metadata", "runs/step-1/__0.metadata"]
    assert second == ["runs/step-1/meta.pt", "runs/step-1/-before.distcp", "runs/step-1/a_0.distcp"]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_interrupted_prune_leaves_no_broken_checkpoint(place: Place, failing: int) -> None:
    for step in (1, 2, 3):
        place.save(f"runs/step-{step}", "a_0.distcp", "b_0.distcp")

    def fail(number: int) -> None:
        if number == failing:
            raise ServerError("the store failed")

    place.engine.before_delete = fail
    with pytest.raises(ServerError):
        place.catalog().prune(keep_last=1)
    place.engine.before_delete = lambda number: None
    catalog = place.catalog()
    for entry in catalog.list():
        folder = entry.uri.removeprefix("s3://bucket/")
        assert {f"{folder}/a_0.distcp", f"{folder}/b_0.distcp"} <= set(place.stored())
    # What the interruption has left can be found, and pruning again finishes the rest.
    catalog.prune(keep_last=1)
    catalog.remove_leftovers(NOTHING)
    assert place.stored() == ["runs/step-3/.metadata", "runs/step-3/a_0.distcp", "runs/step-3/b_0.distcp"]


def test_what_cannot_be_deleted_stays_whole_and_is_told(place: Place) -> None:
    for step in (1, 2, 3):
        place.save(f"runs/step-{step}")
    place.engine.refused = frozenset({"runs/step-1/.metadata"})
    with pytest.raises(AccessDeniedError, match="1 objects could not be deleted") as caught:
        place.catalog().prune(keep_last=1)
    assert caught.value.key == "runs/step-1/.metadata"
    assert place.stored() == [f"runs/step-{step}/{name}" for step in (1, 3) for name in (".metadata", "a_0.distcp")]


def test_delete_spares_the_newest_unless_told(place: Place) -> None:
    place.save("runs/step-1")
    place.save("runs/step-2")
    with pytest.raises(ValueError, match="allow_newest"):
        place.catalog().delete("step-2")
    assert len(place.stored()) == 4
    assert place.catalog().delete("step-2", allow_newest=True).name == "step-2"
    with pytest.raises(ValueError, match="newest"):
        place.catalog().delete("step-1")
    assert [entry.name for entry in place.catalog().list()] == ["step-1"]


@pytest.mark.parametrize("name", ["step-3", "", "step-1/", "dead", "runs/step-1"])
def test_delete_knows_committed_checkpoints_only(place: Place, name: str) -> None:
    place.save("runs/step-1")
    place.put("runs/dead/a_0.distcp")
    for kind in (CheckpointNotFoundError, FileNotFoundError):
        with pytest.raises(kind, match="s3://bucket/runs"):
            place.catalog().delete(name, allow_newest=True)
    assert len(place.stored()) == 3


def test_deletion_spares_the_save_that_is_under_way(place: Place) -> None:
    place.save("runs/step-1")
    place.save("runs/step-2")
    place.clock.now += 10
    place.put("runs/step-1/new_0.distcp")
    place.catalog().delete("step-1")
    assert [key for key in place.stored() if "step-1" in key] == ["runs/step-1/new_0.distcp"]


def test_deletion_spares_what_was_committed_again_meanwhile(place: Place) -> None:
    place.save("runs/step-1")
    place.save("runs/step-2")
    catalog = place.catalog()
    found = catalog.list()
    place.clock.now += 10
    place.save("runs/step-1", "new_0.distcp")
    before = place.stored()
    catalog.list = lambda: found  # type: ignore[method-assign]  # what it saw before the other's commit
    with pytest.raises(CheckpointError, match="saved anew"):
        catalog.delete("step-1")
    assert catalog.prune(keep_last=1) == []
    assert place.stored() == before


def test_deletion_spares_checkpoints_further_down(place: Place) -> None:
    place.save("runs/step-1/best/of/all")
    place.save("runs/step-1")
    place.save("runs/step-2")
    place.catalog().delete("step-1")
    assert [key for key in place.stored() if "step-1" in key] == [
        "runs/step-1/best/of/all/.metadata",
        "runs/step-1/best/of/all/a_0.distcp",
    ]


class TestLeftovers:
    def test_dead_and_replaced_attempts_are_found(self, place: Place) -> None:
        place.save("runs/step-1", "old_0.distcp")
        place.save("runs/step-1", "new_0.distcp")
        place.put("runs/step-1/dead_0.distcp", b"12345")
        place.put("runs/step-2/01/dead_0.distcp")
        place.put("runs/step-2/.metadata.tmp")
        place.put("runs/step-2/__0_0123456789abcdef_12.safetensors")
        place.put("runs/dead.distcp")
        found = place.catalog().leftovers(NOTHING)
        assert names(found) == [
            "dead.distcp",
            "step-1/dead_0.distcp",
            "step-1/old_0.distcp",
            "step-2/.metadata.tmp",
            "step-2/01/dead_0.distcp",
            "step-2/__0_0123456789abcdef_12.safetensors",
        ]
        assert found[1].size == 5
        assert found[1].modified == datetime.fromtimestamp(place.clock.now, tz=timezone.utc)
        assert place.catalog().remove_leftovers(NOTHING) == found
        assert place.stored() == ["runs/step-1/.metadata", "runs/step-1/new_0.distcp"]

    def test_files_that_no_save_writes_are_none(self, place: Place) -> None:
        for name in (
            "config.json",
            "step-1/meta.pt",
            "step-1/model-00001_0.safetensors",
            "notes.distcp.txt",
            "step-2/x",
        ):
            place.put(f"runs/{name}")
        assert place.catalog().leftovers(NOTHING) == []

    def test_the_young_are_left_out(self, place: Place) -> None:
        place.put("runs/step-1/dead_0.distcp")
        place.clock.now += 10 * HOUR
        place.put("runs/step-1/dying_0.distcp")
        place.clock.now += 20 * HOUR
        assert names(place.catalog().leftovers()) == ["step-1/dead_0.distcp"]
        assert len(place.catalog().leftovers(timedelta(hours=20))) == 2
        assert place.catalog().leftovers(timedelta(hours=31)) == []

    def test_what_was_replaced_lately_may_still_be_read(self, place: Place) -> None:
        place.save("runs/step-1", "old_0.distcp")
        place.clock.now += 100 * HOUR
        place.save("runs/step-1", "new_0.distcp")
        assert place.catalog().leftovers() == []
        place.clock.now += 25 * HOUR
        assert names(place.catalog().leftovers()) == ["step-1/old_0.distcp"]

    def test_a_rank_that_saved_for_itself_keeps_its_files(self, place: Place) -> None:
        place.save("runs/step-1", "__0_0.distcp", "__1_0.distcp")
        manifest = place.store.objects("bucket")["runs/step-1/.metadata"].data
        place.store.remove("bucket", ["runs/step-1/.metadata"])
        place.put("runs/step-1/__0.metadata", manifest)
        place.put("runs/step-1/dead_0.distcp")
        assert place.catalog().list() == []
        assert names(place.catalog().leftovers(NOTHING)) == ["step-1/dead_0.distcp"]

    @pytest.mark.parametrize("above", ["s3://bucket", "s3://bucket/runs/step-1", "s3://bucket/runs/step-1/01"])
    def test_checkpoints_around_and_below_keep_their_files(self, place: Place, above: str) -> None:
        place.save("runs/step-1", "a_0.distcp", "01/b_0.distcp")
        place.put("runs/step-1/01/dead_0.distcp")
        assert names(place.catalog(above).leftovers(NOTHING)) == ["step-1/01/dead_0.distcp"]

    @pytest.mark.parametrize("data", [b"", b"\x80\x04broken", pickle.dumps({"a": 1})])
    def test_metadata_that_cannot_be_read_keep_all_beside_them(
        self, place: Place, data: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.put("runs/step-1/a_0.distcp")
        place.put("runs/step-1/.metadata", data)
        place.put("runs/step-2/dead_0.distcp")
        with caplog.at_level(logging.WARNING):
            assert names(place.catalog().leftovers(NOTHING)) == ["step-2/dead_0.distcp"]
        assert "s3://bucket/runs/step-1/.metadata" in caplog.text

    def test_unfinished_uploads_are_found(self, place: Place) -> None:
        for key in ("runs/step-1/a_0.distcp", "runs/step-1/.metadata", "runs/other.bin", "else/a_0.distcp"):
            place.store.begin("bucket", key, PutOptions())
        place.clock.now += 30 * HOUR
        place.store.begin("bucket", "runs/step-1/young_0.distcp", PutOptions())
        found = place.catalog().leftovers()
        assert names(found) == ["step-1/.metadata", "step-1/a_0.distcp"]
        assert [item.size for item in found] == [None, None]
        assert place.catalog().remove_leftovers() == found
        assert sorted(place.store.uploads("bucket").values()) == [
            "else/a_0.distcp",
            "runs/other.bin",
            "runs/step-1/young_0.distcp",
        ]

    def test_an_age_is_a_timedelta(self, place: Place) -> None:
        with pytest.raises(TypeError, match="timedelta"):
            place.catalog().leftovers(24)  # type: ignore[arg-type]  # the mistake
        with pytest.raises(ValueError, match="negative"):
            place.catalog().remove_leftovers(timedelta(seconds=-1))


def test_a_missing_bucket_is_told(place: Place) -> None:
    catalog = place.catalog("s3://nowhere/runs")
    for call in (catalog.list, catalog.latest, catalog.leftovers, lambda: catalog.prune(keep_last=1)):
        with pytest.raises(BucketNotFoundError, match="nowhere"):
            call()


def test_local_folders_are_refused() -> None:
    with pytest.raises(ValueError, match="s3://"):
        S3CheckpointCatalog("/tmp/runs")  # noqa: S108  # only its form matters


def test_it_pickles_as_its_configuration(place: Place) -> None:
    catalog = S3CheckpointCatalog(
        "s3://bucket/runs/", "eu-west-1", endpoint="memory://pickled", s3client_config=S3ClientConfig(engine="memory")
    )
    MemoryStore.named("memory://pickled").create_bucket("bucket")
    assert repr(pickle.loads(pickle.dumps(catalog))) == repr(catalog) == "S3CheckpointCatalog('s3://bucket/runs')"
    assert pickle.loads(pickle.dumps(catalog)).list() == []
