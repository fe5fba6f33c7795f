"""Laws of saving and loading: what comes back is what was saved, or an error says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from s3torch.harness.conformance._checkpoint_laws import CheckpointLaws, Checkpoints, load_with, save_with
from s3torch.harness.conformance._checkpoint_states import STATES, State, blank, differences, small_state

__all__ = ["RoundTripLaws"]


class RoundTripLaws(CheckpointLaws):
    """Save, load, load in part, load elsewhere."""

    @pytest.mark.parametrize("kind", list(STATES))
    def test_loads_what_was_saved(self, checkpoints: Checkpoints, kind: str) -> None:
        """Every kind of state comes back byte by byte: types, shapes, layouts, values, nesting, sizes."""
        state = STATES[kind]()
        checkpoints.save("step-1", state)
        checkpoints.check("step-1", state)

    @pytest.mark.parametrize("kind", list(STATES))
    def test_stock_torch_loads_it_once_downloaded(self, checkpoints: Checkpoints, tmp_path: Path, kind: str) -> None:
        """Copied into a local folder, a checkpoint is one that torch itself reads."""
        state = STATES[kind]()
        checkpoints.save("step-1", state)
        checkpoints.download("step-1", tmp_path)
        found = blank(state)
        load_with(dcp.FileSystemReader(tmp_path), found)
        assert list(differences(found, state)) == []

    @pytest.mark.parametrize("kind", list(STATES))
    def test_loads_what_stock_torch_has_saved(self, checkpoints: Checkpoints, tmp_path: Path, kind: str) -> None:
        """A checkpoint that torch has written into a folder is one in S3 once it is uploaded."""
        state = STATES[kind]()
        save_with(dcp.FileSystemWriter(tmp_path, thread_count=2), state)
        for path in tmp_path.rglob("*"):
            name = path.relative_to(tmp_path).as_posix()
            checkpoints.arrangement.put(checkpoints.bucket, f"step-1/{name}", path.read_bytes())
        checkpoints.check("step-1", state)

    def test_loads_into_the_memory_it_is_given(self, checkpoints: Checkpoints) -> None:
        """A tensor that is loaded into stays the same tensor, whatever its layout, and keeps its own type."""
        saved = torch.arange(24, dtype=torch.float32).reshape(4, 6)
        checkpoints.save("step-1", {"t": saved})
        whole, other = torch.zeros(6, 8), torch.zeros(4, 6, dtype=torch.float64)
        parameter = torch.nn.Parameter(torch.zeros(4, 6))
        for target in (torch.zeros(4, 6), torch.zeros(6, 4).t(), whole.t()[::2, :], other, parameter):
            state: State = {"t": target}
            checkpoints.load_into("step-1", state)
            assert state["t"] is target
            assert torch.equal(target.detach(), saved.to(target.dtype))
        # What lies between the elements of a view is not touched.
        assert not whole.t()[1::2, :].any()

    def test_loads_a_part(self, checkpoints: Checkpoints) -> None:
        """Only what is asked for is loaded; the rest of the checkpoint does not matter."""
        checkpoints.save("step-1", STATES["many"]())
        expected = {name: tensor for name, tensor in STATES["many"]().items() if name in ("p001", "p100", "p199")}
        checkpoints.check("step-1", expected)
        checkpoints.check("step-1", {})

    def test_serves_models_and_optimizers(self, checkpoints: Checkpoints) -> None:
        """What has ``state_dict`` and ``load_state_dict`` is saved and loaded by them."""

        def make(seed: int) -> State:
            torch.manual_seed(seed)
            model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 * seed)
            for _ in range(2):
                optimizer.zero_grad()
                model(torch.randn(8, 6)).sum().backward()
                optimizer.step()
            return {"model": model, "optimizer": optimizer}

        first, second = make(1), make(2)
        checkpoints.save("step-1", first)
        checkpoints.load_into("step-1", second)
        for name in first:
            assert list(differences(second[name].state_dict(), first[name].state_dict())) == []

    def test_a_tensor_that_is_not_there_is_an_error(self, checkpoints: Checkpoints) -> None:
        """What was never saved cannot be loaded, and the error names it; nothing else is loaded, either."""
        checkpoints.save("step-1", small_state())
        target = {**blank(small_state()), "momentum": torch.zeros(3)}
        message = _error_of(checkpoints, target)
        assert "momentum" in message
        assert list(differences(target, {**blank(small_state()), "momentum": torch.zeros(3)})) == []

    @pytest.mark.parametrize("shape", [(7, 5), (5,), (5, 8), (0, 7), (1, 5, 7)])
    def test_another_shape_is_an_error(self, checkpoints: Checkpoints, shape: tuple[int, ...]) -> None:
        """A tensor of another shape than was saved is refused, by name."""
        checkpoints.save("step-1", {"weight": torch.ones(5, 7)})
        target = {"weight": torch.zeros(shape)}
        assert "weight" in _error_of(checkpoints, target)
        assert not target["weight"].any()

    def test_a_checkpoint_that_is_not_there_is_an_error(self, checkpoints: Checkpoints) -> None:
        """Where nothing was committed nothing can be loaded, and the error says where."""
        message = _error_of(checkpoints, blank(small_state()))
        assert checkpoints.bucket in message
        assert "step-1" in message

    def test_damaged_metadata_are_an_error(self, checkpoints: Checkpoints) -> None:
        """Metadata that are cut short, empty or something else are refused, and the error says where."""
        checkpoints.save("step-1", small_state())
        key = "step-1/.metadata"
        whole = checkpoints.arrangement.get(checkpoints.bucket, key)
        assert whole is not None
        for wrong in (whole[: len(whole) // 2], b"", b"not a pickle"):
            checkpoints.arrangement.put(checkpoints.bucket, key, wrong)
            assert checkpoints.bucket in _error_of(checkpoints, blank(small_state()))

    def test_damaged_data_are_an_error(self, checkpoints: Checkpoints) -> None:
        """Data that are missing or cut short are an error that names the object, never a tensor of something else."""
        for number, wrong in enumerate((None, 0.5, 0.0)):
            name = f"step-{number}"
            checkpoints.save(name, small_state())
            # The first file of any name: a save may write several.
            data = min(key for key in checkpoints.keys(name) if not key.endswith(".metadata"))
            whole = checkpoints.arrangement.get(checkpoints.bucket, f"{name}/{data}") or b""
            if wrong is None:
                checkpoints.arrangement.remove(checkpoints.bucket, f"{name}/{data}")
            else:
                checkpoints.arrangement.put(checkpoints.bucket, f"{name}/{data}", whole[: int(len(whole) * wrong)])
            assert data.rpartition("/")[2] in _error_of(checkpoints, blank(small_state()), name)

    def test_loading_changes_nothing(self, checkpoints: Checkpoints) -> None:
        """Loading only reads."""
        checkpoints.save("step-1", small_state())
        checkpoints.tap.clear()
        checkpoints.check("step-1", small_state())
        assert checkpoints.tap.requests()
        assert [asked for asked in checkpoints.tap.requests() if not asked.is_read] == []

    @pytest.mark.parametrize("for_good", [False, True])
    def test_every_request_of_a_load_may_fail(self, checkpoints: Checkpoints, for_good: bool) -> None:
        """Whatever request of a load fails, the load raises or is right; the next one is not troubled by it."""
        state = small_state()
        checkpoints.save("step-1", state)
        checkpoints.tap.clear()
        checkpoints.check("step-1", state)
        for number in range(len(checkpoints.tap.requests())):
            checkpoints.tap.clear()
            checkpoints.tap.break_at(number, carried_out=False, for_good=for_good)
            found = blank(state)
            try:
                checkpoints.load_into("step-1", found)
            except BaseException as error:  # torch's CheckpointException is no Exception
                if not isinstance(error, Exception) and type(error).__name__ != "CheckpointException":
                    raise
            else:
                assert list(differences(found, state)) == []
            checkpoints.tap.clear()
            checkpoints.check("step-1", state)


def _error_of(checkpoints: Checkpoints, target: State, name: str = "step-1") -> str:
    """Load, and return what the error says, with all that it was raised from."""
    # Beyond Exception: torch's CheckpointException is none.
    with pytest.raises(BaseException) as caught:  # the wording is checked by the caller
        checkpoints.load_into(name, target)
    assert not isinstance(caught.value, KeyboardInterrupt)
    said: list[str] = []
    error: Any = caught.value
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(said)
