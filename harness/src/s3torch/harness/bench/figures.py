"""Figures as text, in the unit in which people read them."""

from __future__ import annotations

import math

from s3torch.harness.bench.scenario import GIB, MIB

TIMES = "\N{MULTIPLICATION SIGN}"
MISSING = "\N{EN DASH}"


def seconds(value: float) -> str:
    """Return a time: three digits of it, in s, ms or µs."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= factor:
            return f"{_three(value / factor)} {unit}"
    return f"{_three(value / 1e-6)} µs"


def rate(value: float, *, is_of_objects: bool) -> str:
    """Return a rate, given in objects or in bytes per second."""
    if is_of_objects:
        return f"{value:,.0f}/s" if value >= 10 else f"{value:.1f}/s"
    return f"{_three(value / 1e9)} GB/s" if value >= 1e8 else f"{_three(value / 1e6)} MB/s"


def cpu(value: float, *, is_of_objects: bool) -> str:
    """Return processor time, given for an object or for a GiB."""
    if math.isnan(value):
        return MISSING
    return seconds(value) if is_of_objects else f"{value:.2f} s/GiB"


def size(value: float) -> str:
    """Return a number of bytes."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if value >= unit:
            return f"{_three(value / unit)} {name}"
    return f"{value:.0f} B"


def factor(value: float) -> str:
    """Return a ratio."""
    return f"{_three(value)} {TIMES}"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
