"""Writes the tables of ``scale.md`` and its two figures from ``scale.json``; the tests compare.

``python docs/make_scale.py`` writes them anew; with ``--measure`` it first measures this machine and simulates, which
takes some minutes on an idle one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Line, draw

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
    return draw(lines, (10, 400), (0.1, 1000), ("link, Gbit/s", "cores"), "Cores that a link keeps busy", marks=LINKS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure this machine and simulate first")
    if parser.parse_args().measure:
        measure()
    for file, text in files().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
