"""The states that the processes of these tests save, sharded in several ways, and their whole form."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

State = dict[str, Any]

# Rows that four ranks do not share evenly, one with nothing for some of them, and columns.
_SHARDED = {
    "even": ((16, 5), 0),
    "uneven": ((10, 3), 0),
    "scarce": ((2, 7), 0),
    "columns": ((6, 9), 1),
    "vector": ((4_099,), 0),
    "cube": ((4, 6, 8), 2),
}


def whole_state(seed: int) -> State:
    """Return everything as one process holds it."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {name: torch.randn(shape, generator=generator) for name, (shape, _) in _SHARDED.items()}
    state["half"] = torch.randn(12, 4, generator=generator).to(torch.bfloat16)
    state["grid"] = torch.randint(0, 1000, (8, 8), generator=generator)
    state["replicated"] = torch.randn(7, 7, generator=generator)
    state["plain"] = torch.randn(3, 3, generator=generator)
    return {"tensors": state, "step": 1000 + seed, "note": {"text": f"seed {seed}", "bytes": bytes(range(256))}}


def sharded_state(seed: int) -> State:
    """Return the same state as this rank holds it."""
    whole = whole_state(seed)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    tensors = whole["tensors"]
    for name, (_, dimension) in _SHARDED.items():
        tensors[name] = distribute_tensor(tensors[name], mesh, [Shard(dimension)])
    tensors["half"] = distribute_tensor(tensors["half"], mesh, [Shard(0)])
    tensors["grid"] = distribute_tensor(tensors["grid"], _grid(), [Shard(0), Shard(1)])
    tensors["replicated"] = distribute_tensor(tensors["replicated"], mesh, [Replicate()])
    return whole


def blank_state() -> State:
    """Return a sharded state to load into."""
    state = sharded_state(0)
    with torch.no_grad():
        for tensor in state["tensors"].values():
            tensor.zero_()
    return {**state, "step": 0, "note": {"text": "", "bytes": b""}}


def check_loaded(found: State, seed: int) -> None:
    """Check a state that was loaded, sharded or not."""
    expected = whole_state(seed)
    assert found["step"] == expected["step"], found["step"]
    assert found["note"] == expected["note"], found["note"]
    for name, tensor in expected["tensors"].items():
        loaded = found["tensors"][name]
        if isinstance(loaded, DTensor):
            loaded = loaded.full_tensor()
        assert torch.equal(loaded, tensor), name


def _grid() -> DeviceMesh:
    """A mesh of two dimensions, as square as the world allows."""
    size = dist.get_world_size()
    return init_device_mesh("cpu", (2, size // 2) if size % 2 == 0 else (1, size))
