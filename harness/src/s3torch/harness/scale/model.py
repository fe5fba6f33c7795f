"""What a host needs to fill its link, from first principles. Pure.

A connection carries one request at a time: it waits for the first byte, then receives at the rate that the store grants
a connection. The formulas are those of operational analysis (Denning and Buzen, 1978):

* Little's law: requests in flight = requests a second x seconds of one request. With one request on a connection, that
  is the number of connections; times the bytes of a request it is the bytes on their way, the bandwidth-delay product.
* The utilization law: cores busy = requests a second x processor seconds of one request.
* The asymptotic bounds of a closed system: N connections yield at most N / (latency + transfer + processor time)
  requests a second, the processors at most 1 / (processor time) each, and the link at most its rate / request size.

Objects that are delivered in order add a bound of their own. One that is late holds up those behind it: a window of W
requests moves on no faster than W / (longest of W latencies), and what is expected of the longest of W log-normal
latencies is, nearly, their quantile at 1 - 1 / W (extreme value theory; Gumbel, 1958).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

from s3torch.harness.scale.costs import PathCosts

__all__ = [
    "KERNEL_BUFFER",
    "Needs",
    "Prediction",
    "Service",
    "Work",
    "WorkKind",
    "gigabits",
    "plan",
    "predict",
    "work_of",
]

MIB = 1024**2
PART = 8 * MIB
OBJECT = 110_000
UPLOAD_BUFFERS = 6
KERNEL_BUFFER = 6 * MIB
"""Linux' default limit of a receive buffer, the third figure of ``net.ipv4.tcp_rmem``."""
UTILIZATION = 0.8
"""How busy a process may be: nearer to 1, what has arrived waits for its turn, and a computation elsewhere shows."""
HEADROOM = 1.1
"""Connections beyond those that fill the link on average: with no more than these, chance leaves it idle at times."""
_WINDOW = 2  # get_many keeps as many again waiting for their turn as it has in flight


class WorkKind(str, Enum):
    """What the host does."""

    LARGE = "large reads"
    """Large objects and checkpoints into tensors, in parts of 8 MiB."""
    SMALL = "110 KB objects"
    """One request for each object, delivered in order within a window."""
    SAVE = "checkpoint save"
    """Tensors from their own memory, in parts of 8 MiB."""


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one kind of work, and what each costs."""

    kind: WorkKind
    """What the host does."""
    size: int
    """Bytes of a request's body."""
    request: float
    """Processor seconds of a request, whatever its size."""
    byte: float
    """Processor seconds of a byte."""
    connection: int
    """Bytes of the process's memory for a connection."""
    in_order: bool = False
    """Whether what arrives waits for what was asked for before it, within a window of twice the connections."""

    @property
    def processor_time(self) -> float:
        """Processor seconds of a whole request."""
        return self.request + self.size * self.byte


@dataclass(frozen=True, slots=True)
class Service:
    """How the store answers."""

    first_byte: float = 0.030
    """Mean seconds from a request to the first byte of its answer, the network's round trip included."""
    rate: float = 90e6
    """Bytes a second that one connection carries at most; Amazon's performance guidelines name 85 to 90 MB/s."""

    variation: float = 0.4
    """Sigma of the log-normal first-byte latency: at 0.4, one in a hundred takes 2.3 times the mean."""

    def seconds(self, size: int) -> float:
        """Return how long a request of ``size`` bytes takes on average on an idle host."""
        return self.first_byte + size / self.rate

    def longest(self, size: int, count: int) -> float:
        """Return how long the slowest of ``count`` requests may be expected to take."""
        if count < 2:
            return self.seconds(size)
        # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
        exponent = self.variation * NormalDist().inv_cdf(1 - 1 / count) - self.variation**2 / 2
        return self.first_byte * math.exp(exponent) + size / self.rate


@dataclass(frozen=True, slots=True)
class Needs:
    """What fills a link."""

    link: float
    """The link in bytes a second."""
    requests: float
    """Requests a second."""
    connections: int
    """Connections of all processes together."""
    cores: float
    """Cores that are busy."""
    processes: int
    """Processes of one core each that leave some of it free."""
    in_flight: int
    """Bytes on their way at any moment: the bandwidth-delay product."""
    memory: int
    """Bytes of the processes' memory beyond the destination of what is read, or the tensors that are saved."""
    kernel: int
    """Bytes that the kernel's socket buffers hold at most."""

    @property
    def connections_each(self) -> int:
        """Connections of one process."""
        return -(-self.connections // self.processes)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a given set-up reaches."""

    rate: float
    """Bytes a second."""
    limit: str
    """What holds it there: ``connections``, ``order``, ``link`` or ``processor``."""
    cores: float
    """Cores that are busy."""


def gigabits(value: float) -> float:
    """Return bytes a second of so many gigabits a second."""
    return value * 1e9 / 8


def work_of(kind: WorkKind, costs: PathCosts, *, size: int | None = None) -> Work:
    """Return the requests of a kind of work.

    Args:
        kind: Which.
        costs: What they cost.
        size: Bytes of each; None is 8 MiB for parts and 110,000 for objects.
    """
    if kind is WorkKind.SMALL:
        return Work(kind, size or OBJECT, costs.request, costs.object_byte, costs.connection, in_order=True)
    byte = costs.write_byte if kind is WorkKind.SAVE else costs.read_byte
    return Work(kind, size or PART, costs.request, byte, costs.connection)


def plan(work: Work, link: float, service: Service, *, utilization: float = UTILIZATION) -> Needs:
    """Return what fills a link.

    Args:
        work: What the host does.
        link: Bytes a second, all of them payload: what headers take makes the needs a few percent smaller.
        service: How the store answers.
        utilization: How busy a process may be, above 0 and at most 1.
    """
    _check(link=link)
    if not 0 < utilization <= 1:
        raise ValueError(f"utilization must be above 0 and at most 1, got {utilization}")
    requests = link / work.size
    cores = requests * work.processor_time
    processes = max(1, math.ceil(cores / utilization))
    connections = math.ceil(HEADROOM * requests * (service.seconds(work.size) + work.processor_time))
    if work.in_order:
        connections = _fill_in_order(connections, requests, work, service, processes)
    memory = connections * work.connection
    if work.kind is WorkKind.SMALL:
        memory += _WINDOW * connections * work.size
    elif work.kind is WorkKind.SAVE:
        memory += processes * UPLOAD_BUFFERS * PART
    in_flight = math.ceil(link * service.seconds(work.size))
    kernel = connections * min(work.size, KERNEL_BUFFER)
    return Needs(link, requests, connections, cores, processes, in_flight, memory, kernel)


def predict(work: Work, link: float, service: Service, *, connections: int, processes: int) -> Prediction:
    """Return what so many connections on so many processes reach: the least of the bounds.

    Args:
        work: What the host does.
        link: Bytes a second.
        service: How the store answers.
        connections: Connections of all processes together.
        processes: Processes of one core each.
    """
    _check(link=link, connections=connections, processes=processes)
    processes = min(processes, connections)
    bounds = {
        "connections": connections * work.size / (service.seconds(work.size) + work.processor_time),
        "link": link,
        "processor": processes * work.size / work.processor_time if work.processor_time else math.inf,
    }
    if work.in_order:
        window = _WINDOW * connections // processes
        bounds["order"] = _WINDOW * connections * work.size / service.longest(work.size, window)
    limit = min(bounds, key=lambda name: bounds[name])
    rate = bounds[limit]
    return Prediction(rate, limit, rate / work.size * work.processor_time)


def _fill_in_order(connections: int, requests: float, work: Work, service: Service, processes: int) -> int:
    """Return how many connections deliver ``requests`` a second in order, which is no fewer than ``connections``."""
    while True:
        window = _WINDOW * -(-connections // processes)
        needed = math.ceil(requests * service.longest(work.size, window) / _WINDOW)
        if needed <= connections:
            return connections
        connections = needed


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
