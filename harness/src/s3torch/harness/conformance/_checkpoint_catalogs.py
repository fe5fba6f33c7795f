"""Laws of a catalogue: only what is committed counts, and the newest is never lost."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from s3torch.harness.conformance._checkpoint_laws import METADATA, Catalog, CheckpointLaws, Checkpoints
from s3torch.harness.conformance._checkpoint_states import small_state

__all__ = ["CatalogLaws"]

_NOTHING = timedelta(0)
_FOLDER = "runs"


class CatalogLaws(CheckpointLaws):
    """List, latest, prune, delete, leftovers."""

    @pytest.fixture
    def catalog(self, checkpoints: Checkpoints) -> Catalog:
        """The catalogue of a folder."""
        if not self.has_catalog:
            pytest.skip("this storage declares that it has no catalogue")
        return checkpoints.storage.catalog(checkpoints.uri(_FOLDER))

    def _save(self, checkpoints: Checkpoints, *steps: int) -> None:
        for step in steps:
            checkpoints.save(f"{_FOLDER}/step-{step}", small_state(step))

    def _break_off_a_save(self, checkpoints: Checkpoints, step: int) -> None:
        """Leave behind what a killed process would: data and no commit."""
        checkpoints.tap.clear()
        self._save(checkpoints, step)
        total = len(checkpoints.tap.requests())
        checkpoints.arrangement.remove(checkpoints.bucket, f"{_FOLDER}/step-{step}/{METADATA}")
        assert total > 1
        checkpoints.tap.clear()

    def _names(self, catalog: Catalog) -> list[str]:
        return [entry.name for entry in catalog.list()]

    def test_lists_the_committed(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """A checkpoint is listed from its commit on, with what a reader needs; the oldest first, by number in a tie."""
        assert catalog.list() == []
        assert catalog.latest() is None
        before = datetime.now(timezone.utc) - timedelta(seconds=5)
        self._save(checkpoints, 8, 9, 10)
        self._break_off_a_save(checkpoints, 11)
        checkpoints.save("elsewhere/step-12", small_state(12))
        assert sorted(self._names(catalog)) == ["step-10", "step-8", "step-9"]
        times = [entry.committed for entry in catalog.list()]
        assert times == sorted(times)
        assert before < times[0] <= times[-1] < before + timedelta(minutes=5)
        for entry in catalog.list():
            assert entry.uri == checkpoints.uri(f"{_FOLDER}/{entry.name}")
            assert entry.step == int(entry.name.removeprefix("step-"))
            checkpoints.check(f"{_FOLDER}/{entry.name}", small_state(entry.step))
        latest = catalog.latest()
        assert latest is not None
        assert latest.name == "step-10"

    def test_prunes_the_old(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """Pruning keeps the last, and those of every so many steps; it removes the others with all their objects."""
        self._save(checkpoints, *range(1, 8))
        before = checkpoints.keys(_FOLDER)
        catalog.prune(keep_last=2, keep_every=3, dry_run=True)
        assert checkpoints.keys(_FOLDER) == before
        catalog.prune(keep_last=2, keep_every=3)
        kept = ["step-3", "step-6", "step-7"]
        assert sorted(self._names(catalog)) == kept
        assert {key.split("/")[0] for key in checkpoints.keys(_FOLDER)} == set(kept)
        for step in (3, 6, 7):
            checkpoints.check(f"{_FOLDER}/step-{step}", small_state(step))
        catalog.prune(keep_every=1000)
        assert self._names(catalog) == ["step-7"]

    def test_never_prunes_the_newest(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """Whatever the rule, the newest committed one stays, even if saves that never ended came after it."""
        self._save(checkpoints, 5)
        self._break_off_a_save(checkpoints, 6)
        for keep_last, keep_every in ((1, None), (None, 1000), (1, 1000)):
            catalog.prune(keep_last, keep_every)
            assert self._names(catalog) == ["step-5"]
        checkpoints.check(f"{_FOLDER}/step-5", small_state(5))

    def test_refuses_rules_that_say_nothing(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """No rule, and numbers below 1, are `ValueError` before anything happens."""
        self._save(checkpoints, 1, 2)
        checkpoints.tap.clear()
        for keep_last, keep_every in ((None, None), (0, None), (-1, None), (None, 0)):
            with pytest.raises(ValueError):
                catalog.prune(keep_last, keep_every)
        assert checkpoints.tap.requests() == []

    @pytest.mark.parametrize("carried_out", [False, True], ids=["not sent", "not answered"])
    def test_every_request_of_pruning_may_fail(
        self, checkpoints: Checkpoints, catalog: Catalog, carried_out: bool
    ) -> None:
        """Wherever pruning breaks off, all that is listed loads; pruning again and clearing up finish the work."""
        self._save(checkpoints, 1, 2, 3)
        for number in range(1000):
            checkpoints.tap.clear()
            checkpoints.tap.break_at(number, carried_out=carried_out, for_good=True)
            try:
                catalog.prune(keep_last=1)
            except Exception:  # noqa: BLE001  # whatever it says, what matters is what it leaves
                has_failed = True
            else:
                has_failed = False
            checkpoints.tap.clear()
            for entry in catalog.list():
                assert entry.step is not None
                checkpoints.check(f"{_FOLDER}/{entry.name}", small_state(entry.step))
            assert "step-3" in self._names(catalog)
            catalog.prune(keep_last=1)
            catalog.remove_leftovers(_NOTHING)
            assert {key.split("/")[0] for key in checkpoints.keys(_FOLDER)} == {"step-3"}
            if not has_failed:
                return
            self._save(checkpoints, 1, 2)
            checkpoints.save(f"{_FOLDER}/step-3", small_state(3))
        raise AssertionError("pruning has no end")

    def test_deletes_one(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """Deleting removes one checkpoint; the newest only when told so, and none that is not there."""
        self._save(checkpoints, 1, 2, 3)
        catalog.delete("step-1")
        assert sorted(self._names(catalog)) == ["step-2", "step-3"]
        assert not checkpoints.keys(f"{_FOLDER}/step-1")
        with pytest.raises(ValueError):
            catalog.delete("step-3")
        with pytest.raises(FileNotFoundError):
            catalog.delete("step-1")
        assert sorted(self._names(catalog)) == ["step-2", "step-3"]
        catalog.delete("step-3", allow_newest=True)
        assert self._names(catalog) == ["step-2"]
        checkpoints.check(f"{_FOLDER}/step-2", small_state(2))

    def test_finds_what_dead_saves_left(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """The data of a save that never ended, and of one that was replaced, are leftovers; live data never are."""
        self._save(checkpoints, 1)
        replaced = checkpoints.keys(f"{_FOLDER}/step-1") - {METADATA}
        self._save(checkpoints, 1, 2)
        self._break_off_a_save(checkpoints, 3)
        dead = checkpoints.keys(f"{_FOLDER}/step-3")
        expected = {checkpoints.uri(f"{_FOLDER}/step-1/{key}") for key in replaced}
        expected |= {checkpoints.uri(f"{_FOLDER}/step-3/{key}") for key in dead}
        assert {item.uri for item in catalog.leftovers(_NOTHING)} == expected
        catalog.remove_leftovers(_NOTHING)
        assert catalog.leftovers(_NOTHING) == []
        assert not checkpoints.keys(f"{_FOLDER}/step-3")
        for step in (1, 2):
            checkpoints.check(f"{_FOLDER}/step-{step}", small_state(step))

    def test_leaves_the_young_alone(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """What was written lately is no leftover unless one says so: a save may be under way."""
        self._break_off_a_save(checkpoints, 1)
        before = checkpoints.keys(_FOLDER)
        assert catalog.leftovers() == []
        catalog.remove_leftovers()
        catalog.remove_leftovers(timedelta(hours=1))
        assert checkpoints.keys(_FOLDER) == before

    def test_clearing_up_spares_what_others_keep(self, checkpoints: Checkpoints, catalog: Catalog) -> None:
        """Objects that no save writes are neither checkpoints nor leftovers."""
        self._save(checkpoints, 1, 2)
        names = ("config.json", "step-1/meta.pt", "step-9/tokenizer.json", "model.safetensors", "logs/x/events")
        for name in names:
            checkpoints.arrangement.put(checkpoints.bucket, f"{_FOLDER}/{name}", b"mine")
        catalog.remove_leftovers(_NOTHING)
        assert set(names) <= checkpoints.keys(_FOLDER)
        assert sorted(self._names(catalog)) == ["step-1", "step-2"]

    def test_a_save_under_way_is_no_checkpoint_and_survives_pruning(
        self, checkpoints: Checkpoints, catalog: Catalog
    ) -> None:
        """Listing and pruning at any moment of a save neither show it nor harm it."""
        self._save(checkpoints, 1, 2)
        checkpoints.tap.clear()
        self._save(checkpoints, 3)
        total = len(checkpoints.tap.requests())
        catalog.delete("step-3", allow_newest=True)
        for number in range(total):
            seen: list[list[str]] = []

            def look(seen: list[list[str]] = seen) -> None:
                catalog.prune(keep_last=1)
                catalog.remove_leftovers()
                seen.append(self._names(catalog))

            checkpoints.tap.clear()
            checkpoints.tap.call_before(number, look)
            self._save(checkpoints, 3)
            assert seen == [["step-2"]]
            checkpoints.check(f"{_FOLDER}/step-3", small_state(3))
            catalog.delete("step-3", allow_newest=True)
