"""The state of a sharded model and its optimizers, out of them and back, in torch's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType
from torch.distributed.tensor import DTensor
from torch.nn import Module
from torch.optim import Optimizer

__all__ = ["find_model", "get_state", "set_full_state", "set_shards"]


def find_model(state: Mapping[str, Any]) -> tuple[str, Module]:
    """Find the model that is spread over the processes.

    Args:
        state: What a user wants to save or to load.

    Returns:
        Its name and the model.

    Raises:
        ValueError: There is none, or more than one.
    """
    models = [(name, value) for name, value in state.items() if _is_spread(value)]
    if len(models) == 1:
        return models[0]
    raise ValueError(
        f"a sharded checkpoint holds one model that the strategy has set up, and its optimizers; the state has"
        f" {len(models)} such models, under {[name for name, _ in models] or list(state)}. Give one, as in"
        " state={'model': model, 'optimizer': optimizer}"
    )


def get_state(model: Module, part: Module | Optimizer, *, is_full: bool) -> dict[str, Any]:
    """Return the state of a model or of one of its optimizers, on the CPU.

    Args:
        model: The model.
        part: The model or the optimizer.
        is_full: Put whole tensors together, in the first process; else each process gets its shards.
    """
    options = StateDictOptions(full_state_dict=is_full, cpu_offload=True)
    if isinstance(part, Module):
        return get_model_state_dict(part, options=options)
    return cast("dict[str, Any]", get_optimizer_state_dict(model, part, options=options))


def set_shards(
    model: Module, optimizers: Mapping[str, Optimizer], name: str, state: dict[str, Any], strict: bool
) -> None:
    """Give a model and its optimizers the shards that were loaded.

    Args:
        model: The model.
        optimizers: Its optimizers, by name.
        name: The model's name.
        state: What was loaded, by the same names.
        strict: Whether the model's keys must be the loaded ones.
    """
    options = StateDictOptions(strict=strict)
    set_model_state_dict(model, state[name], options=options)
    for key, optimizer in optimizers.items():
        set_optimizer_state_dict(model, optimizer, state[key], options=options)


def set_full_state(
    model: Module, optimizers: Mapping[Optimizer, dict[str, Any]], state: dict[str, Any], strict: bool
) -> None:
    """Give a model and its optimizers their part of whole tensors.

    Args:
        model: The model.
        optimizers: The state of each optimizer; its parameters go by name or, as in a checkpoint that was not
            sharded, by number.
        state: The model's state.
        strict: Whether the model's keys must be the loaded ones.
    """
    options = StateDictOptions(full_state_dict=True, strict=strict)
    set_model_state_dict(model, state, options=options)
    for optimizer, values in optimizers.items():
        if any(isinstance(key, int) for key in values["state"]):
            values = FullyShardedDataParallel.rekey_optim_state_dict(values, OptimStateKeyType.PARAM_NAME, model)  # noqa: PLW2901  # the same by other keys
        set_optimizer_state_dict(model, optimizer, values, options=options)


def _is_spread(value: object) -> TypeGuard[Module]:
    return isinstance(value, Module) and (
        any(isinstance(module, FullyShardedDataParallel) for module in value.modules())
        or any(isinstance(parameter, DTensor) for parameter in value.parameters())
    )
