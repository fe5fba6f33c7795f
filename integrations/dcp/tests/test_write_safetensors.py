from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.saving import BUCKET, FOLDER, MIB, Place, all_tensors, assert_same, quiet, save
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import WriteItem

from s3torch.client import ServerError
from s3torch.dcp._item_info import payload_offset
from s3torch.harness.conformance.tapping import EngineTap

safetensors = pytest.importorskip("safetensors")


@pytest.fixture
def place() -> Place:
    return Place()


def tensors() -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in all_tensors().items() if tensor.dtype is not torch.complex128}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_safetensors_package_reads_what_is_saved(place: Place, tmp_path: Path, threads: int) -> None:
    from safetensors.torch import load_file

    state = tensors()
    save(state, place.writer(serialization_format="safetensors", thread_count=threads))
    files = [place.download(tmp_path) / name for name in place.names() if name.endswith(".safetensors")]
    assert len(files) == threads
    loaded: dict[str, torch.Tensor] = {}
    for file in files:
        loaded |= load_file(file)
        with safetensors.safe_open(file, "pt") as opened:
            noted = opened.metadata()
            sharding = json.loads(noted["DCP_SHARDING_INFO"])
            assert {name: sharding[name]["saved_offsets"] for name in opened.keys()} == {  # noqa: SIM118  # no mapping
                name: [0] * state[name].dim()
                for name in opened.keys()  # noqa: SIM118  # no mapping
            }
    assert_same(loaded, state)
    for index, info in (pickle.loads(place.store.find(BUCKET, f"{FOLDER}/.metadata").data).storage_data).items():
        assert payload_offset(info) == 0
        data = place.store.find(BUCKET, f"{FOLDER}/{info.relative_path}").data[info.offset : info.offset + info.length]
        assert data == bytes(
            state[index.fqn].resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8).tolist()
        )


def test_stock_torch_reads_them_as_it_reads_its_own(place: Place, tmp_path: Path) -> None:
    storage = pytest.importorskip("torch.distributed.checkpoint.hf_storage")
    state = {"large": torch.randn(3, MIB), "small": torch.randn(5, 7), "half": torch.randn(9).to(torch.bfloat16)}
    save(state, place.writer(serialization_format="safetensors", thread_count=2))
    target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    with quiet():
        reader = storage.HuggingFaceStorageReader(str(place.download(tmp_path)))
        dcp.load(target, storage_reader=reader)
    assert_same(target, state)


def test_objects_get_a_file_of_their_own(place: Place) -> None:
    save({"a": torch.zeros(3), "step": 7}, place.writer(serialization_format="safetensors"))
    assert sorted(name.rpartition(".")[2] for name in place.names()) == ["distcp", "metadata", "safetensors"]


def test_a_failure_leaves_nothing(place: Place) -> None:
    tap = EngineTap("memory")
    state = {"a": torch.zeros(4 * MIB)}
    tap.break_at(3, carried_out=False, for_good=False, error=ServerError("the store failed"))
    with pytest.raises(ServerError):
        save(state, place.writer(engine=tap, serialization_format="safetensors"))
    assert place.names() == []
    assert not place.store.uploads(BUCKET)


def test_a_planner_must_resolve_what_it_has_planned(place: Place) -> None:
    class Changing(DefaultSavePlanner):
        def transform_object(self, write_item: WriteItem, object: Any) -> Any:  # noqa: A002  # torch's name
            return super().transform_object(write_item, object).to(torch.float16)

    with pytest.raises(ValueError, match=r"'a' to torch.float16 of \(3,\), but planned torch.float32"):
        save({"a": torch.zeros(3)}, place.writer(serialization_format="safetensors"), planner=Changing())
    assert place.names() == []


def test_what_the_format_does_not_have_is_told(place: Place) -> None:
    with pytest.raises(ValueError, match="complex128"):
        save({"a": torch.zeros(3, dtype=torch.complex128)}, place.writer(serialization_format="safetensors"))
