"""Laws of the commit: a checkpoint exists at once, whole, or not at all."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from s3torch.harness.conformance._checkpoint_laws import METADATA, CheckpointLaws, Checkpoints, save_with
from s3torch.harness.conformance._checkpoint_states import STATES, State, small_state
from s3torch.harness.conformance.tapping import Asked

__all__ = ["CommitLaws"]

_OLD, _NEW, _OTHER = small_state(1), small_state(2), small_state(3)
_LOST = (False, True)  # a request that fails was carried out, or was not


def _large_state() -> State:
    """Return a state that no single request carries: an upload in parts."""
    return {"large": torch.arange(3_000_000, dtype=torch.float32), "small": torch.ones(3)}


def _save(checkpoints: Checkpoints, name: str, state: State) -> BaseException | None:
    """Save, and return what was raised."""
    try:
        checkpoints.save(name, state)
    except BaseException as error:  # noqa: BLE001  # torch's CheckpointException and KeyboardInterrupt are no Exceptions
        return error
    return None


class CommitLaws(CheckpointLaws):
    """Commit, overwrite, interruption, concurrent saves."""

    def _requests(self, checkpoints: Checkpoints, name: str, state: State) -> list[Asked]:
        checkpoints.tap.clear()
        checkpoints.save(name, state)
        found = checkpoints.tap.requests()
        checkpoints.tap.clear()
        return found

    def test_nothing_exists_before_the_end(self, checkpoints: Checkpoints) -> None:
        """Until the last request that changes anything, there is no checkpoint, and no data after it."""
        found = self._requests(checkpoints, "count", _NEW)
        seen: list[bool] = []
        for number in range(len(found) + 3):  # a save may take a request more or less
            checkpoints.tap.call_before(number, lambda: seen.append(checkpoints.exists("step-1")))
        checkpoints.save("step-1", _NEW)
        assert checkpoints.exists("step-1")
        # Requests before the commit see none; after it nothing is written any more.
        asked = checkpoints.tap.requests()
        commit = max(number for number, each in enumerate(asked) if not each.is_read)
        assert seen[: commit + 1] == [False] * (commit + 1)
        assert asked[commit].keys == (f"step-1/{METADATA}",)

    def test_the_commit_is_one_put(self, checkpoints: Checkpoints) -> None:
        """``.metadata`` is put once, under its own name: no copy, no temporary object, nothing deleted."""
        if not self.commits_once:
            pytest.skip("this storage declares another way to commit")
        checkpoints.save("step-1", _OLD)
        for state in (_NEW, _large_state()):
            asked = [each for each in self._requests(checkpoints, "step-1", state) if not each.is_read]
            commits = [each for each in asked if any(METADATA in key for key in each.keys)]
            assert commits == [Asked("PutObject", checkpoints.bucket, (f"step-1/{METADATA}",))]
            assert {each.operation for each in asked} <= {
                "PutObject",
                "CreateMultipartUpload",
                "UploadPart",
                "CompleteMultipartUpload",
            }

    def test_the_newest_save_is_what_is_loaded(self, checkpoints: Checkpoints) -> None:
        """A checkpoint that is saved again is replaced, also by a smaller one and by one of another form."""
        for state in (_large_state(), _OLD, STATES["objects"](), _NEW):
            checkpoints.save("step-1", state)
            checkpoints.check("step-1", state)

    def test_no_name_is_written_twice(self, checkpoints: Checkpoints) -> None:
        """Each save writes its data under names of its own, by whatever writer, and leaves those of others alone."""
        writer = checkpoints.storage.writer(checkpoints.uri("step-1"))
        for state in (_OLD, _NEW, _OTHER):
            save_with(writer, state)
            checkpoints.check("step-1", state)
            checkpoints.save("step-1", state)
        written = [
            key
            for asked in checkpoints.tap.requests()
            if asked.operation in ("PutObject", "CompleteMultipartUpload", "CopyObject")
            for key in asked.keys
            if not key.endswith(METADATA)
        ]
        assert len(written) == len(set(written)) >= 6

    def test_a_writer_serves_several_checkpoints(self, checkpoints: Checkpoints) -> None:
        """``checkpoint_id`` sends a writer elsewhere; what it saved before stays as it was."""
        writer = checkpoints.storage.writer(checkpoints.uri("step-1"))
        save_with(writer, _OLD)
        save_with(writer, _NEW, checkpoint_id=checkpoints.uri("step-2"))
        checkpoints.check("step-1", _OLD)
        checkpoints.check("step-2", _NEW)

    @pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
    @pytest.mark.parametrize("carried_out", _LOST, ids=["not sent", "not answered"])
    def test_every_request_of_a_save_may_fail(
        self, checkpoints: Checkpoints, carried_out: bool, for_good: bool
    ) -> None:
        """Whatever request of a save fails, the save raises or is right, and what was there before is not harmed."""
        checkpoints.save("count", _OLD)
        for number in range(len(self._requests(checkpoints, "count", _NEW))):
            name = f"step-{number}"
            checkpoints.save(name, _OLD)
            checkpoints.tap.clear()
            checkpoints.tap.break_at(number, carried_out=carried_out, for_good=for_good)
            error = _save(checkpoints, name, _NEW)
            checkpoints.tap.clear()
            assert checkpoints.exists(name)
            found = checkpoints.which(name, _OLD, _NEW)
            if error is None:
                assert found is _NEW, f"request {number} failed, nothing was raised, and the old state is loaded"
            elif not carried_out:
                assert found is _OLD, f"request {number} failed, {error!r} was raised, and the new state is loaded"
            checkpoints.save(name, _OTHER)
            checkpoints.check(name, _OTHER)

    @pytest.mark.parametrize("carried_out", _LOST, ids=["not sent", "not answered"])
    def test_an_interrupted_first_save_does_not_exist(self, checkpoints: Checkpoints, carried_out: bool) -> None:
        """Where there was no checkpoint, a save that fails leaves none, unless it had all been done; and no parts."""
        state = _large_state()
        for number in range(len(self._requests(checkpoints, "count", state))):
            name = f"step-{number}"
            checkpoints.tap.clear()
            checkpoints.tap.break_at(number, carried_out=carried_out, for_good=False)
            error = _save(checkpoints, name, state)
            checkpoints.tap.clear()
            if error is None or (carried_out and checkpoints.exists(name)):
                checkpoints.check(name, state)
            else:
                assert not checkpoints.exists(name)
            # An upload whose beginning nobody heard of cannot be ended.
            left = checkpoints.arrangement.uploads(checkpoints.bucket)
            assert len(left) <= (number + 1 if carried_out else 0), f"request {number} failed and left {left}"

    def test_ctrl_c_is_passed_on(self, checkpoints: Checkpoints) -> None:
        """An interruption of the program ends a save, and what was there before stays."""
        checkpoints.save("step-1", _OLD)
        total = len(self._requests(checkpoints, "count", _NEW))
        for number in range(total):
            checkpoints.tap.clear()
            checkpoints.tap.break_at(number, carried_out=False, for_good=False, error=KeyboardInterrupt())
            error = _save(checkpoints, "step-1", _NEW)
            checkpoints.tap.clear()
            assert error is not None
            assert "KeyboardInterrupt" in _text(error)
            checkpoints.check("step-1", _OLD)
            assert checkpoints.arrangement.uploads(checkpoints.bucket) == []

    def test_a_save_may_be_overtaken(self, checkpoints: Checkpoints) -> None:
        """A save that another one overtakes at whatever request damages nothing: the last commit is what is loaded."""
        total = len(self._requests(checkpoints, "count", _NEW))
        for number in range(total):
            name = f"step-{number}"
            checkpoints.save(name, _OLD)
            checkpoints.tap.clear()
            checkpoints.tap.call_before(number, partial(checkpoints.save, name, _OTHER))
            error = _save(checkpoints, name, _NEW)
            assert error is None, f"overtaken at request {number}: {error!r}"
            assert checkpoints.which(name, _NEW, _OTHER) is _NEW

    def test_a_load_goes_on_while_a_save_replaces(self, checkpoints: Checkpoints) -> None:
        """A load during which the checkpoint is saved anew gives the old state or the new one, or an error."""
        checkpoints.save("step-0", _OLD)
        checkpoints.tap.clear()
        checkpoints.check("step-0", _OLD)
        for number in range(len(checkpoints.tap.requests())):
            checkpoints.save("step-0", _OLD)
            checkpoints.tap.clear()
            checkpoints.tap.call_before(number, lambda: checkpoints.save("step-0", _NEW))
            checkpoints.which("step-0", _OLD, _NEW)


def _text(error: Any) -> str:
    said: list[str] = []
    while error is not None:
        said += [type(error).__name__, str(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(said)
