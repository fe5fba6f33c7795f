"""What the name of a checkpoint tells: its step, and its place among others."""

from __future__ import annotations

import re

__all__ = ["find_step", "natural_order"]

_STEP = re.compile(r"step[s]?[^0-9A-Za-z]?([0-9]+)(?![0-9.]*\.[0-9])", re.IGNORECASE)
_VERSION = re.compile(r"[-_]v[0-9]+(?=\.[A-Za-z]+$|$)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_DIGITS = re.compile(r"([0-9]+)")


def find_step(name: str) -> int | None:
    """Return the training step that a name tells.

    Args:
        name: Such as ``step-100``, ``global_step100`` or ``epoch=3-step=1200-v1.ckpt``: the number behind "step", else
            the last whole number that is not a version.

    Returns:
        The step, or None where the name has no number.
    """
    named = _STEP.findall(name)
    if named:
        return int(named[-1])
    numbers = [number for number in _NUMBER.findall(_VERSION.sub("", name)) if "." not in number]
    return int(numbers[-1]) if numbers else None


def natural_order(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return a key that sorts names as people do: ``step-9`` before ``step-10``.

    Args:
        name: The name.
    """
    pieces = _DIGITS.split(name)
    texts, numbers = pieces[0::2], [int(digits) for digits in pieces[1::2]]
    return tuple(zip(texts, [*numbers, -1], strict=True)), name
