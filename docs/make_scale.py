"""Writes the tables of ``scale.md`` and its two figures from ``scale.json``; the tests compare.

``python docs/make_scale.py`` writes them anew; with ``--measure`` it first measures this machine and simulates, which
takes some minutes on an idle one.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3torch.harness.scale.costs import Costs
from s3torch.harness.scale.model import Service, WorkKind, gigabits, plan, predict, work_of
from s3torch.harness.scale.reality import CASES, Case, Checked, check_model, hold_against_model
from s3torch.harness.scale.tables import (
    LINKS,
    Comparison,
    compare,
    comparison_table,
    costs_table,
    needs_table,
    reality_table,
)

FOLDER = Path(__file__).parent
PAGE, DATA = FOLDER / "scale.md", FOLDER / "scale.json"
SERVICE = Service()
COLOURS = {"blue": "#1f6feb", "red": "#bc4c00", "green": "#1a7f37"}


@dataclass(frozen=True)
class Line:
    """One line of a figure, with dots of its own."""

    label: str
    colour: str
    value: Callable[[float], float]
    dots: tuple[tuple[float, float], ...] = ()
    dash: str = ""


def read() -> tuple[Costs, list[Comparison], list[Checked]]:
    """Return what ``scale.json`` holds."""
    found = json.loads(DATA.read_text(encoding="utf-8"))
    costs = Costs.from_json(found["costs"])
    return costs, [Comparison(**each) for each in found["simulated"]], [_checked(costs, e) for e in found["measured"]]


def _checked(costs: Costs, found: dict[str, Any]) -> Checked:
    service = Service(found["first_byte"], found["cap"], 0.0)
    case = Case(found["connections"], WorkKind(found["kind"]), found["size"], service)
    return hold_against_model(costs, case, found["rate"])


def measure() -> None:
    """Measure, simulate and write ``scale.json``."""
    from s3torch.harness.scale.measuring import measure_costs

    costs = measure_costs(print)
    simulated = [asdict(each) for each in compare(costs, SERVICE)]
    measured = [
        {
            "connections": case.connections,
            "kind": case.kind.value,
            "size": case.size,
            "first_byte": case.service.first_byte,
            "cap": case.service.rate,
            "rate": check_model(costs, case).rate,
        }
        for case in CASES
    ]
    found = {"costs": asdict(costs), "simulated": simulated, "measured": measured}
    DATA.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def files() -> dict[str, str]:
    """Return the content of each file that this program writes, by its name."""
    costs, simulated, checked = read()
    page = PAGE.read_text(encoding="utf-8")
    for name, table in (
        ("costs", costs_table(costs)),
        ("needs", needs_table(costs, SERVICE)),
        ("simulation", comparison_table(simulated)),
        ("reality", reality_table(checked)),
    ):
        pattern = re.compile(rf"(<!-- {name}: made by make_scale\.py -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = pattern.subn(lambda match: f"{match[1]}\n{table.to_markdown()}\n{match[2]}", page)  # noqa: B023 - used at once
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the table {name}")
    return {
        PAGE.name: page,
        "scale-connections.svg": _connections_figure(costs, simulated),
        "scale-cores.svg": _cores_figure(costs),
    }


def _connections_figure(costs: Costs, simulated: Sequence[Comparison]) -> str:
    lines = []
    for kind, colour in ((WorkKind.LARGE, "blue"), (WorkKind.SMALL, "red")):
        work = work_of(kind, costs.plain)
        processes = plan(work, gigabits(100), SERVICE).processes
        dots = tuple((e.connections, e.simulated * 8e-9) for e in simulated if (e.kind, e.link) == (kind.value, 100))

        def rate(x: float, work: Any = work, processes: int = processes) -> float:
            found = predict(work, gigabits(100), SERVICE, connections=max(1, round(x)), processes=processes)
            return found.rate * 8e-9

        lines.append(Line(kind.value, colour, rate, dots))
    return draw(
        lines, (8, 8192), (0.1, 100), ("connections of the host", "Gbit/s"),
        "What connections carry on a link of 100 Gbit/s: the model as lines, the simulation as dots",
    )  # fmt: skip


def _cores_figure(costs: Costs) -> str:
    lines = []
    for kind, colour in ((WorkKind.LARGE, "blue"), (WorkKind.SMALL, "red"), (WorkKind.SAVE, "green")):
        for name, path, dash in (("", costs.plain, ""), (", TLS", costs.tls, "6 4")):
            work = work_of(kind, path)

            def cores(x: float, work: Any = work) -> float:
                return plan(work, gigabits(x), SERVICE).cores

            dots = tuple((float(link), cores(link)) for link in LINKS)
            lines.append(Line(kind.value + name, colour, cores, dots, dash))
    return draw(lines, (10, 400), (0.1, 1000), ("link, Gbit/s", "cores"), "Cores that a link keeps busy")


def draw(
    lines: Sequence[Line], xs: tuple[float, float], ys: tuple[float, float], names: tuple[str, str], title: str
) -> str:
    """Return a figure with two logarithmic axes as SVG.

    Args:
        lines: What to draw.
        xs: Ends of the x axis.
        ys: Ends of the y axis.
        names: Of the axes.
        title: For who does not see it.
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
    for value in _ticks(*xs, base=8 if xs[0] == 8 else 10, more=LINKS if xs[0] == 10 else ()):
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


def _ticks(low: float, high: float, *, base: float, more: Sequence[float] = ()) -> list[float]:
    powers = [low * base**n for n in range(20) if low * base**n <= high * 1.0001]
    return [*powers[:1], *more] if more else powers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure this machine and simulate first")
    if parser.parse_args().measure:
        measure()
    for file, text in files().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
