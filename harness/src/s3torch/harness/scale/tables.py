"""What the model and the simulation say, as tables for people. Pure, but for the time that simulating takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.harness.scale.costs import GIB, Costs
from s3torch.harness.scale.model import Service, Work, WorkKind, gigabits, plan, predict, work_of
from s3torch.harness.scale.reality import Checked
from s3torch.harness.scale.simulation import Setup, simulate

__all__ = [
    "CONNECTIONS",
    "LINKS",
    "Comparison",
    "Table",
    "compare",
    "comparison_table",
    "costs_table",
    "needs_table",
    "reality_table",
]

LINKS = (25, 100, 400)
"""Gbit/s."""
CONNECTIONS = (8, 64, 256)
"""Of all processes of the host together."""
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows; the first column is text, the others are figures."""

    title: str
    """What it shows."""
    headings: tuple[str, ...]
    """One for each column."""
    rows: tuple[tuple[str, ...], ...]
    """As many cells each."""

    def to_markdown(self) -> str:
        """Return it without its title."""
        lines = [self.headings, ("---", *["---:"] * (len(self.headings) - 1)), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One set-up as the model and as the simulation see it."""

    kind: str
    """The work."""
    link: int
    """Gbit/s."""
    connections: int
    """Connections of all processes together."""
    processes: int
    """Processes, of one core each."""
    predicted: float
    """Bytes a second by the model."""
    limit: str
    """What the model says holds it there."""
    simulated: float
    """Bytes a second by the simulation."""
    is_planned: bool
    """Whether the model takes so many connections to fill the link."""

    @property
    def ratio(self) -> float:
        """Simulated over predicted."""
        return self.simulated / self.predicted


def costs_table(costs: Costs) -> Table:
    """Return what was measured.

    Args:
        costs: The costs.
    """
    rows = []
    for name, path in (("plain HTTP", costs.plain), ("TLS", costs.tls)):
        rows.append(
            (
                name,
                f"{path.request * 1e6:.0f} us",
                f"{work_of(WorkKind.SMALL, path).processor_time * 1e6:.0f} us",
                f"{path.read_byte * GIB:.2f} s",
                f"{path.write_byte * GIB:.2f} s",
                f"{path.connection / 1024:,.0f} KiB",
            )
        )
    headings = ("", "request", "110 KB object", "GiB read", "GiB written", "open connection")
    return Table(f"Processor time and memory, measured on {costs.machine}", headings, tuple(rows))


def needs_table(costs: Costs, service: Service, *, links: Sequence[int] = LINKS) -> Table:
    """Return what fills each link.

    Args:
        costs: What requests and bytes cost.
        service: How the store answers.
        links: Gbit/s.
    """
    rows = []
    for kind in WorkKind:
        for name, path in (("plain", costs.plain), ("TLS", costs.tls)):
            for link in links:
                needs = plan(work_of(kind, path), gigabits(link), service)
                rows.append(
                    (
                        f"{kind.value}, {name}",
                        f"{link}",
                        f"{needs.requests:,.0f}",
                        f"{needs.cores:.1f}",
                        f"{needs.processes:,}",
                        f"{needs.connections:,}",
                        f"{needs.connections_each:,}",
                        _memory(needs.in_flight),
                        _memory(needs.memory),
                        _memory(needs.kernel),
                    )
                )
    headings = (
        "work",
        "Gbit/s",
        "requests/s",
        "cores busy",
        "processes",
        "connections",
        "each",
        "on the way",
        "memory",
        "socket buffers",
    )
    return Table("What fills a link", headings, tuple(rows))


def compare(
    costs: Costs,
    service: Service,
    *,
    links: Sequence[int] = LINKS,
    connections: Sequence[int] = CONNECTIONS,
    kinds: Sequence[WorkKind] = (WorkKind.LARGE, WorkKind.SMALL),
) -> list[Comparison]:
    """Hold the model against the simulation, over plain HTTP, on the processes that the model plans.

    Args:
        costs: What requests and bytes cost.
        service: How the store answers.
        links: Gbit/s.
        connections: How many; those that the model takes to fill the link are added.
        kinds: The work. Saving a checkpoint is to both the same as large reads at another cost of a byte.
    """
    found = []
    for kind in kinds:
        work = work_of(kind, costs.plain)
        for link in links:
            needs = plan(work, gigabits(link), service)
            found += [
                _compare(work, link, service, count, needs.processes, is_planned=count not in connections)
                for count in [*connections, needs.connections]
            ]
    return found


def _compare(
    work: Work, link: int, service: Service, connections: int, processes: int, *, is_planned: bool
) -> Comparison:
    predicted = predict(work, gigabits(link), service, connections=connections, processes=processes)
    simulated = simulate(work, service, Setup(connections, processes, gigabits(link)))
    return Comparison(
        kind=work.kind.value,
        link=link,
        connections=connections,
        processes=processes,
        predicted=predicted.rate,
        limit=predicted.limit,
        simulated=simulated.rate,
        is_planned=is_planned,
    )


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the model beside the simulation.

    Args:
        comparisons: From `compare`.
    """
    rows = [
        (
            f"{each.kind}, {each.link} Gbit/s",
            f"{each.processes}",
            f"{each.connections:,}{' (planned)' if each.is_planned else ''}",
            f"{_gigabits(each.predicted)}",
            f"{_gigabits(each.simulated)}",
            f"{each.ratio:.2f}",
            each.limit,
        )
        for each in comparisons
    ]
    headings = ("work and link", "processes", "connections", "model, Gbit/s", "simulation, Gbit/s", "ratio", "limit")
    return Table("The model beside the simulation", headings, tuple(rows))


def reality_table(checked: Sequence[Checked]) -> Table:
    """Return the model beside real sockets.

    Args:
        checked: From `reality.check_model`.
    """
    rows = [
        (
            f"{each.case.size:,} bytes",
            f"{each.case.connections}",
            f"{each.case.service.first_byte * 1e3:.0f} ms",
            f"{each.case.service.rate / 1e6:.0f} MB/s",
            f"{each.predicted.rate / 1e6:.0f} MB/s",
            f"{each.rate / 1e6:.0f} MB/s",
            f"{each.ratio:.2f}",
        )
        for each in checked
    ]
    headings = ("requests of", "connections", "first byte", "cap of each", "model", "measured", "ratio")
    return Table("The model beside real sockets", headings, tuple(rows))


def _gigabits(rate: float) -> str:
    value = rate * 8 / 1e9
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _memory(size: int) -> str:
    if size < 10 * _MIB:
        return f"{size / _MIB:.1f} MiB"
    return f"{size / _MIB:,.0f} MiB" if size < 10 * GIB else f"{size / GIB:,.1f} GiB"
