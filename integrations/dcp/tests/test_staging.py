from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from s3torch.dcp._staging import copy_state


def test_a_copy_shares_nothing() -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    state: dict[str, Any] = {"a": {"w": weight, "view": weight.t(), "n": 3}, "b": [weight * 2, ("x", weight)], "s": {1}}
    kept = copy.deepcopy({"w": weight.detach().clone()})["w"]
    copied = copy_state(state)
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
    copied = copy_state({"w": tensor})["w"]
    tensor.to_local().zero_()
    assert isinstance(copied, DTensor)
    assert copied.placements == tensor.placements
    assert torch.equal(copied.to_local(), torch.arange(4.0))
