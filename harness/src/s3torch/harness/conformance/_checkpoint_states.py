"""What checkpoints are made of in the suites: states of every kind, empty ones to load into, and their comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

__all__ = ["STATES", "State", "blank", "differences", "small_state"]

State: TypeAlias = dict[str, Any]

_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32") if hasattr(torch, name)),
)


def _bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Return a tensor of that type whose bytes look random, but are no NaN."""
    generator = torch.Generator().manual_seed(seed)
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    return torch.randint(0, 100, shape, generator=generator).to(dtype)


def small_state(seed: int = 0) -> State:
    """Return a small state of tensors and values, another one for another seed."""
    return {
        "model": {f"layer{number}.weight": _bits((5, 7), torch.float32, 10 * seed + number) for number in range(3)},
        "step": 100 + seed,
        "note": f"state {seed}",
    }


def _dtypes() -> State:
    return {str(dtype): _bits((3, 5), dtype, number) for number, dtype in enumerate(_DTYPES)}


def _shapes() -> State:
    shapes = [(), (1,), (0,), (0, 3), (3, 0, 2), (1, 1, 1), (2, 3, 4, 5), (10_007,)]
    return {f"of {shape}": _bits(shape, torch.float32, number) for number, shape in enumerate(shapes)}


def _views() -> State:
    base = _bits((40, 50), torch.float32, 1)
    return {
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "part": base[10:20],
        "expanded": base[:1].expand(4, 50),
        "channels last": _bits((2, 3, 4, 5), torch.float32, 2).to(memory_format=torch.channels_last),
        "shared once": base,
        "shared twice": base,
        "conjugate": _bits((4,), torch.complex64, 3).conj(),
    }


def _objects() -> State:
    return {
        "int": 1,
        "float": math.pi,
        "text": "ü" * 1000,
        "none": None,
        "bytes": bytes(range(256)) * 40,
        "list": [1, "two", 3.0, {"four": (5,)}],
        "device": torch.device("cpu"),
        "lists of tensors": [_bits((3,), torch.float32, 1), [_bits((2, 2), torch.int64, 2)]],
    }


def _nested() -> State:
    return {"a": {"b": {"c": small_state(1), "d/e": small_state(2)}}, "a.b": small_state(3), " ": {"": torch.ones(2)}}


def _many() -> State:
    return {f"p{number:03}": _bits((number % 7 + 1, 11), torch.float32, number) for number in range(200)}


def _large() -> State:
    return {
        "large": _bits((2_900_001,), torch.float32, 1),
        "small": torch.ones(3),
        "next": _bits((900, 900), torch.int32, 2),
    }


STATES: Mapping[str, Callable[[], State]] = {
    "small": small_state,
    "empty": dict,
    "dtypes": _dtypes,
    "shapes": _shapes,
    "views": _views,
    "objects": _objects,
    "nested": _nested,
    "many": _many,
    "large": _large,
}
"""States by name, each made anew by a call."""


def blank(value: Any) -> Any:
    """Return a state of the same form whose tensors and values are others, to be loaded into."""
    if isinstance(value, torch.Tensor):
        made = torch.empty_like(value, memory_format=torch.contiguous_format).resolve_conj()
        return made.view(torch.uint8).fill_(171).view(value.dtype) if made.ndim and made.numel() else made.zero_()
    if isinstance(value, dict):
        return {key: blank(item) for key, item in value.items()}
    if isinstance(value, list):
        return [blank(item) for item in value]
    return "not loaded"


def differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Yield where a loaded state is not what was saved, compared byte by byte."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor) or (found.dtype, found.shape) != (expected.dtype, expected.shape):
            yield f"{path}: expected {expected.dtype} of {tuple(expected.shape)}, found {type(found).__name__}"
        elif _as_bytes(found) != _as_bytes(expected):
            yield f"{path}: other elements"
    elif isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            yield f"{path}: other keys"
            return
        for key, item in expected.items():
            yield from differences(found[key], item, f"{path}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for number, item in enumerate(expected):
            yield from differences(found[number], item, f"{path}/{number}")
    elif type(found) is not type(expected) or found != expected:
        yield f"{path}: expected {expected!r}, found {found!r}"


def _as_bytes(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
