from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from s3torch.dcp._staging import StateCopier
from s3torch.dcp._tensor_memory import byte_view


def test_a_copy_shares_nothing() -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    state: dict[str, Any] = {"a": {"w": weight, "view": weight.t(), "n": 3}, "b": [weight * 2, ("x", weight)], "s": {1}}
    kept = copy.deepcopy({"w": weight.detach().clone()})["w"]
    copied = StateCopier().copy(state)
    with torch.no_grad():
        weight.zero_()
    state["s"].add(2)
    assert torch.equal(copied["a"]["w"], kept)
    assert torch.equal(copied["a"]["view"], kept.t())
    assert torch.equal(copied["b"][0], kept * 2)
    assert copied["b"][1][0] == "x"
    assert torch.equal(copied["b"][1][1], kept)
    assert copied["a"]["n"] == 3
    assert copied["s"] == {1}
    assert not copied["a"]["w"].requires_grad


@pytest.fixture
def group() -> Any:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_copy_of_a_distributed_tensor_is_one(group: None) -> None:
    mesh = init_device_mesh("cpu", (1,))
    tensor = DTensor.from_local(torch.arange(4.0), mesh, [Shard(0)])
    copier = StateCopier()
    copied = copier.copy({"w": tensor})["w"]
    tensor.to_local().zero_()
    again = copier.copy({"w": tensor})["w"]
    assert torch.equal(again.to_local(), torch.zeros(4))
    assert isinstance(copied, DTensor)
    assert copied.placements == tensor.placements
    assert torch.equal(copied.to_local(), torch.arange(4.0))


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    copier = StateCopier()
    state = {"w": torch.arange(10.0)}
    copied = copier.copy(state)
    address = copied["w"].data_ptr()
    del copied
    state["w"] += 1
    copied = copier.copy(state)
    assert copied["w"].data_ptr() == address
    assert torch.equal(copied["w"], state["w"])


@pytest.mark.parametrize(
    "refer",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[3:],
        lambda tensor: tensor.view(torch.uint8),
        lambda tensor: tensor.numpy(),
        lambda tensor: memoryview(tensor.numpy())[1:],
        lambda tensor: tensor.untyped_storage(),
        byte_view,
    ],
    ids=["itself", "slice", "view", "numpy", "memoryview", "storage", "byte view"],
)
def test_memory_that_something_refers_to_is_left_alone(refer: Callable[[torch.Tensor], Any]) -> None:
    copier = StateCopier()
    state = {"w": torch.arange(10.0)}
    held = refer(copier.copy(state)["w"])
    state["w"].zero_()
    second = copier.copy(state)["w"]
    whole = torch.frombuffer(held, dtype=torch.uint8) if isinstance(held, memoryview) else torch.as_tensor(held)
    assert whole.any()
    assert not second.any()


def test_memory_that_another_process_may_see_is_left_alone() -> None:
    copier = StateCopier()
    state = {"w": torch.arange(10.0)}
    address = copier.copy(state)["w"].share_memory_().data_ptr()
    assert copier.copy(state)["w"].data_ptr() != address


def test_other_shapes_get_other_memory() -> None:
    copier = StateCopier()
    for state in ({"w": torch.ones(3)}, {"w": torch.ones(4)}, {"w": torch.ones(4, dtype=torch.int64)}, {"v": 1}):
        copied = copier.copy(state)
        assert copied.keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(copied[key]), torch.as_tensor(value))
            assert torch.as_tensor(copied[key]).dtype == torch.as_tensor(value).dtype


def test_tied_tensors_are_copied_once() -> None:
    weight = torch.arange(4.0)
    copied = StateCopier().copy({"a": weight, "b": [weight]})
    assert copied["a"].data_ptr() == copied["b"][0].data_ptr() != weight.data_ptr()


def test_nothing_is_kept_unless_asked_to() -> None:
    copier = StateCopier(keeps_memory=False)
    state = {"w": torch.arange(4.0)}
    first, second = copier.copy(state), copier.copy(state)
    assert first["w"].data_ptr() != second["w"].data_ptr()
    assert not copier._last
    assert not pickle.loads(pickle.dumps(copier))._keeps_memory


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).t(),
        torch.arange(3.0).expand(2, 3),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.eye(3).to_sparse(),
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.nn.Parameter(torch.ones(2, 2)),
    ],
    ids=["transposed", "expanded", "conjugate", "sparse", "scalar", "empty", "parameter"],
)
def test_every_layout_is_copied_twice_over(tensor: torch.Tensor) -> None:
    copier = StateCopier()
    for _ in range(2):
        copied = copier.copy({"x": tensor})["x"]
        assert copied.shape == tensor.shape
        assert torch.equal(copied.to_dense(), tensor.detach().to_dense())
