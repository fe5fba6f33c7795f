"""Figures with two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

COLOURS = {"blue": "#1f6feb", "red": "#bc4c00", "green": "#1a7f37"}


@dataclass(frozen=True)
class Line:
    """One line of a figure, with dots of its own."""

    label: str
    colour: str
    value: Callable[[float], float]
    dots: tuple[tuple[float, float], ...] = ()
    dash: str = ""


def draw(
    lines: Sequence[Line],
    xs: tuple[float, float],
    ys: tuple[float, float],
    names: tuple[str, str],
    title: str,
    *,
    marks: Sequence[float] = (),
) -> str:
    """Return a figure with two logarithmic axes as SVG.

    Args:
        lines: What to draw.
        xs: Ends of the x axis.
        ys: Ends of the y axis.
        names: Of the axes.
        title: For who does not see it.
        marks: Values to name on the x axis between its ends; by default the powers.
    """
    left, right, top, bottom = 70, 560, 30, 330

    def at(x: float, y: float) -> str:
        across = math.log(x / xs[0]) / math.log(xs[1] / xs[0])
        up = math.log(min(max(y, ys[0]), ys[1]) / ys[0]) / math.log(ys[1] / ys[0])
        return f"{left + across * (right - left):.1f} {bottom - up * (bottom - top):.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 390" font-family="system-ui, sans-serif"',
        f'  font-size="13" role="img" aria-label="{title}">',
        '<rect x="1" y="1" width="778" height="388" rx="12" fill="#ffffff" stroke="#d0d7de"/>',
    ]
    for value in [xs[0], *marks] if marks else _ticks(*xs, base=8 if xs[0] == 8 else 10):
        x, y = at(value, ys[0]).split()
        parts.append(f'<path d="M{x} {top}V{y}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" fill="#57606a">{value:g}</text>')
    for value in _ticks(*ys, base=10):
        x, y = at(xs[0], value).split()
        parts.append(f'<path d="M{x} {y}H{right}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end" fill="#57606a">{value:g}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle:g}" y="{bottom + 44}" text-anchor="middle" fill="#24292f">{names[0]}</text>')
    parts.append(f'<text x="{left - 8}" y="{top - 10}" text-anchor="end" fill="#24292f">{names[1]}</text>')
    for number, line in enumerate(lines):
        steps = [xs[0] * (xs[1] / xs[0]) ** (step / 60) for step in range(61)]
        path = "L".join(at(x, line.value(x)) for x in steps)
        style = f'stroke="{COLOURS[line.colour]}" stroke-width="2" stroke-dasharray="{line.dash}"'
        parts.append(f'<path d="M{path}" fill="none" {style}/>')
        for dot in line.dots:
            cx, cy = at(*dot).split()
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="4" fill="#ffffff" {style.partition(" stroke-dash")[0]}/>')
        height = top + 14 + 24 * number
        parts.append(f'<path d="M{right + 20} {height}h34" {style}/>')
        parts.append(f'<text x="{right + 62}" y="{height + 4}" fill="#24292f">{line.label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(low: float, high: float, *, base: float) -> list[float]:
    return [low * base**n for n in range(20) if low * base**n <= high * 1.0001]
