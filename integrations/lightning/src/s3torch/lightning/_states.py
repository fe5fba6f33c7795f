"""The state of a sharded model and its optimizers, out of them and back, in torch's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard, cast

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    ShardedStateDictConfig,
    StateDictType,
)
from torch.distributed.tensor import DTensor
from torch.nn import Module
from torch.optim import Optimizer

__all__ = ["find_model", "get_state", "set_full_state", "set_shards"]

# Before torch 2.8, get_model_state_dict fails in a process that holds nothing of one of the tensors.
_TRIPS_OVER_EMPTY_SHARDS = torch.__version__ < "2.8"


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
        if _TRIPS_OVER_EMPTY_SHARDS and not is_full and _is_wrapped(part):
            with FullyShardedDataParallel.state_dict_type(
                part, StateDictType.SHARDED_STATE_DICT, ShardedStateDictConfig(offload_to_cpu=True)
            ):
                return part.state_dict()
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
    is_wrapped = _is_wrapped(model)
    with _whole_tensors(model) if is_wrapped else nullcontext():
        if is_wrapped:
            model.load_state_dict(state, strict=strict)
        else:
            set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True, strict=strict))
        for optimizer, stored in optimizers.items():
            by_name = stored
            if any(isinstance(key, int) for key in stored["state"]):
                by_name = FullyShardedDataParallel.rekey_optim_state_dict(stored, OptimStateKeyType.PARAM_NAME, model)
            if is_wrapped:
                optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(model, optimizer, by_name))
            else:
                options = StateDictOptions(full_state_dict=True, strict=strict)
                set_optimizer_state_dict(model, optimizer, by_name, options=options)


def _whole_tensors(model: Module) -> AbstractContextManager[Any]:
    """Let a wrapped model take and give whole tensors, in every process."""
    return cast(
        "AbstractContextManager[Any]",
        FullyShardedDataParallel.state_dict_type(
            model,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=True, rank0_only=False),
            FullOptimStateDictConfig(offload_to_cpu=True, rank0_only=False),
        ),
    )


def _is_wrapped(model: Module) -> bool:
    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules())


def _is_spread(value: object) -> TypeGuard[Module]:
    return isinstance(value, Module) and (
        _is_wrapped(value) or any(isinstance(parameter, DTensor) for parameter in value.parameters())
    )
