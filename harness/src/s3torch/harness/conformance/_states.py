"""States that laws save and load, and their comparison."""

from __future__ import annotations

import torch

__all__ = ["make_state", "same_states"]


def make_state(*sizes: int) -> dict[str, torch.Tensor]:
    """Return tensors of some sizes, the same in every run."""
    generator = torch.Generator().manual_seed(1)
    return {f"t{size}": torch.rand(size, generator=generator) for size in sizes}


def same_states(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Whether two states have the same tensors under the same names."""
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)
