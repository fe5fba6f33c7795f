"""The parts of a catalogue that send no request, and the one that sends many."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections import OrderedDict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import Metadata

from s3torch.client import EngineContext, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.dcp._catalog_names import find_step, natural_order
from s3torch.dcp._catalog_requests import do_at_once
from s3torch.dcp._catalog_values import CheckpointEntry, check_retention, choose_outdated
from s3torch.dcp.manifest import ManifestError, read_references


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step-100", 100),
        ("step_007", 7),
        ("global_step100", 100),
        ("Steps=12", 12),
        ("epoch=3-step=1200", 1200),
        ("epoch=3-step=1200-v1.ckpt", 1200),
        ("step=5-epoch=2.ckpt", 5),
        ("checkpoint-500", 500),
        ("iter_0001", 1),
        ("7", 7),
        ("epoch=03.ckpt", 3),
        ("epoch=3-val_loss=0.35", 3),
        ("last", None),
        ("last-v2", None),
        ("val_loss=0.35", None),
        ("", None),
        ("٣", None),
    ],
)
def test_names_tell_steps(name: str, step: int | None) -> None:
    assert find_step(name) == step


def test_names_sort_as_people_sort_them() -> None:
    names = ["", "10", "a9b10", "a10b2", "step", "step-09", "step-9", "step-10", "step-10-v1"]
    assert sorted(sorted(names), key=natural_order) == names


@given(st.lists(st.text()))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_order)) == sorted(names)


def entries(*steps: int | None) -> list[CheckpointEntry]:
    return [
        CheckpointEntry(f"{number}-{step}", f"s3://b/{number}", datetime.fromtimestamp(number, tz=timezone.utc), step)
        for number, step in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "keep_last", "keep_every", "removed"),
    [
        ([1, 2, 3, 4], 2, None, [1, 2]),
        ([1, 2, 3, 4], 9, None, []),
        ([], 1, 1, []),
        ([100, 150, 200, 250, 300, 350], 1, 100, [150, 250]),
        ([100, 150, 200], None, 100, [150]),
        ([0, 1, 2], None, 10, [1]),
        ([None, 5, None, 7], None, 5, []),
        ([None, 5, None, 7, 8], None, 5, [7]),
        ([None, 5, None, 7], 1, 5, [None, None]),
        ([7], None, 5, []),
    ],
)
def test_retention(
    steps: list[int | None], keep_last: int | None, keep_every: int | None, removed: list[int | None]
) -> None:
    assert [entry.step for entry in choose_outdated(entries(*steps), keep_last, keep_every)] == removed


@given(
    st.lists(st.none() | st.integers(0, 50)),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 10),
)
def test_retention_never_gives_up_the_newest(
    steps: list[int | None], keep_last: int | None, keep_every: int | None
) -> None:
    every = entries(*steps)
    outdated = choose_outdated(every, keep_last, keep_every)
    kept = [entry for entry in every if entry not in outdated]
    assert every[-(keep_last or 1) :] == kept[-(keep_last or 1) :]
    # What is kept stays kept: pruning again removes nothing more.
    assert choose_outdated(kept, keep_last, keep_every) == []


@pytest.mark.parametrize("numbers", [(None, None), (0, None), (None, -1), (1, 0)])
def test_retention_refuses_numbers_that_say_nothing(numbers: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError):
        check_retention(*numbers)


def test_retention_refuses_what_is_no_number() -> None:
    for wrong in (1.5, "3", True):
        with pytest.raises(TypeError):
            check_retention(wrong, None)  # type: ignore[arg-type]  # the mistake


@pytest.fixture
def metadata(tmp_path: Path) -> bytes:
    """What stock torch writes, of many kinds of state."""
    state: dict[str, Any] = {
        "tensor": torch.ones(3, dtype=torch.bfloat16),
        "nested": {"list": [1, torch.zeros(2, 2)], "none": None},
        "ordered": OrderedDict(k=1),
        "path": Path("x"),
        "type": OrderedDict,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that there is no process group
        dcp.save(state, checkpoint_id=tmp_path)
    return Path(tmp_path, ".metadata").read_bytes()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
class TestReferences:
    def test_torchs_metadata_tells_its_files(self, metadata: bytes, tmp_path: Path) -> None:
        assert read_references(metadata) == {path.name for path in tmp_path.glob("*.distcp")}

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_protocol_of_pickle_is_read(self, metadata: bytes, protocol: int) -> None:
        again = pickle.dumps(pickle.loads(metadata), protocol)
        assert read_references(again) == read_references(metadata)

    def test_classes_that_nobody_has_are_no_hindrance(self, metadata: bytes) -> None:
        newer = metadata.replace(b"TensorProperties", b"TensorPr0perties")
        assert newer != metadata
        assert read_references(newer) == read_references(metadata)

    def test_no_code_is_run(self) -> None:
        class Harmful:
            def __reduce__(self) -> tuple[Any, ...]:
                return exec, ("raise SystemExit('the pickle ran code')",)

        with pytest.raises(SystemExit):
            pickle.loads(pickle.dumps(Harmful()))
        data = pickle.dumps(Metadata({}, planner_data=Harmful(), storage_data={}))
        assert read_references(data) == frozenset()

    def test_what_is_cut_short_is_refused(self, metadata: bytes) -> None:
        for end in range(0, len(metadata), 7):
            with pytest.raises(ManifestError):
                read_references(metadata[:end])

    @pytest.mark.parametrize(
        "wrong",
        [{"a": 1}, Metadata({}), Metadata({}, storage_data=[1]), Metadata({}, storage_data={"a": "b"})],
        ids=["dict", "no storage", "list", "no names"],
    )
    def test_what_does_not_tell_is_refused(self, wrong: object) -> None:
        with pytest.raises(ManifestError):
            read_references(pickle.dumps(wrong))


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine(EngineContext("us-east-1", None, "test", S3ClientConfig()), MemoryStore())


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_requests_at_once_come_back_in_order(engine: MemoryEngine, count: int) -> None:
    assert do_at_once(engine, lambda item: item * item, range(count)) == [item * item for item in range(count)]


def test_requests_at_once_are_at_once(engine: MemoryEngine) -> None:
    meeting = threading.Barrier(8)
    do_at_once(engine, lambda _: meeting.wait(30), range(8))


def test_the_first_error_ends_requests_at_once(engine: MemoryEngine) -> None:
    asked: list[int] = []

    def ask(item: int) -> None:
        asked.append(item)
        if item == 3:
            raise KeyboardInterrupt
        if item > 3:
            threading.Event().wait(0.05)

    with pytest.raises(KeyboardInterrupt):
        do_at_once(engine, ask, range(1000))
    assert len(asked) < 1000  # there is time for it: all of them would take six seconds
    assert not [thread for thread in threading.enumerate() if thread.name == "s3torch-catalog"]
