"""A discrete-event simulation of one host: connections, a shared link, and processes that handle what arrives.

It shares no formula with the model. A response travels in chunks: each leaves the store at the connection's rate, waits
for its turn on the link, and then for its process, which handles one chunk after the other. A connection has no more
chunks on their way than its receive buffer holds, and asks for the next object when the last chunk has been handled.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, replace

from s3torch.harness.scale.model import KERNEL_BUFFER, Service, Work

__all__ = ["Setup", "Simulated", "simulate"]

_CHUNK = 1024 * 1024
_LEAST_REQUESTS = 4000
_LEAST_CYCLES = 4
_SENT, _ARRIVED, _HANDLED = range(3)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated beside the work and the store."""

    connections: int
    """Connections of all processes together."""
    processes: int
    """Processes of one core each; connections are spread evenly."""
    link: float
    """Bytes a second."""
    seed: int = 0
    """Decides every latency."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came out."""

    rate: float
    """Bytes a second that were handled."""
    cores: float
    """Cores that were busy."""
    requests: int
    """Requests that were answered within the measured time."""
    held: int
    """Most bytes that had left the store and were not yet delivered."""


class _Process:
    """One loop on one core, and its objects' order."""

    __slots__ = ("busy", "done", "free", "next", "stalled", "turn", "window")

    def __init__(self, window: float) -> None:
        self.free = 0.0
        self.busy = 0.0
        self.window = window
        self.next = 0
        self.turn = 0
        self.done: set[int] = set()
        self.stalled: deque[_Connection] = deque()

    def work(self, now: float, seconds: float) -> float:
        self.free = max(self.free, now) + seconds
        self.busy += seconds
        return self.free


class _Connection:
    """One request after the other."""

    __slots__ = ("is_blocked", "number", "pending", "process", "unhandled", "unsent")

    def __init__(self, process: _Process) -> None:
        self.process = process
        self.number = 0
        self.unsent = 0
        self.unhandled = 0
        self.pending = 0
        self.is_blocked = False


class _Simulation:
    """The events in the order of their time."""

    def __init__(self, work: Work, service: Service, setup: Setup) -> None:
        self._work = work
        self._service = service
        self._setup = setup
        self._random = random.Random(setup.seed)
        # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
        self._mu = math.log(service.first_byte) - service.variation**2 / 2 if service.first_byte else 0.0
        self._chunk = min(_CHUNK, work.size)
        self._buffered = max(1, KERNEL_BUFFER // self._chunk)
        share = -(-setup.connections // setup.processes)
        self._processes = [_Process(2 * share if work.in_order else math.inf) for _ in range(setup.processes)]
        self._link_free = 0.0
        self._events: list[tuple[float, int, int, _Connection, int]] = []
        self._count = 0
        self.requests = 0
        self.handled = 0
        self.held = self.most_held = 0

    def start(self) -> None:
        for number in range(self._setup.connections):
            self._begin(0.0, _Connection(self._processes[number % len(self._processes)]))

    def run(self, until: float) -> None:
        events = self._events
        steps = (self._sent, self._arrived, self._finished)
        while events and events[0][0] <= until:
            now, _, kind, connection, size = heapq.heappop(events)
            steps[kind](now, connection, size)

    def busy(self) -> float:
        return sum(process.busy for process in self._processes)

    def _at(self, when: float, kind: int, connection: _Connection, size: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, kind, connection, size))

    def _begin(self, now: float, connection: _Connection) -> None:
        process = connection.process
        connection.number = process.next
        process.next += 1
        connection.unsent = connection.unhandled = self._work.size
        asked = process.work(now, self._work.request)
        latency = self._service.first_byte and self._random.lognormvariate(self._mu, self._service.variation)
        self._send(asked + latency, connection)

    def _send(self, now: float, connection: _Connection) -> None:
        size = min(self._chunk, connection.unsent)
        connection.unsent -= size
        connection.pending += 1
        self._at(now + size / self._service.rate, _SENT, connection, size)

    def _sent(self, now: float, connection: _Connection, size: int) -> None:
        self.held += size
        self.most_held = max(self.most_held, self.held)
        self._link_free = max(self._link_free, now) + size / self._setup.link
        self._at(self._link_free, _ARRIVED, connection, size)
        if connection.unsent:
            if connection.pending < self._buffered:
                self._send(now, connection)
            else:
                connection.is_blocked = True

    def _arrived(self, now: float, connection: _Connection, size: int) -> None:
        self._at(connection.process.work(now, size * self._work.byte), _HANDLED, connection, size)

    def _finished(self, now: float, connection: _Connection, size: int) -> None:
        connection.pending -= 1
        connection.unhandled -= size
        self.handled += size
        if connection.is_blocked:
            connection.is_blocked = False
            self._send(now, connection)
        if not self._work.in_order:
            self.held -= size
        if not connection.unhandled:
            self._deliver(now, connection)

    def _deliver(self, now: float, connection: _Connection) -> None:
        process, size = connection.process, self._work.size
        self.requests += 1
        if not self._work.in_order:
            self._begin(now, connection)
            return
        process.done.add(connection.number)
        while process.turn in process.done:
            process.done.remove(process.turn)
            process.turn += 1
            self.held -= size
        process.stalled.append(connection)
        while process.stalled and process.next < process.turn + process.window:
            self._begin(now, process.stalled.popleft())


def simulate(work: Work, service: Service, setup: Setup) -> Simulated:
    """Simulate one host in its steady state.

    Args:
        work: What it does.
        service: How the store answers.
        setup: Connections, processes, link and seed.

    Returns:
        What it reached, after a warm-up as long as the measured time. The same arguments give the same result.
    """
    if setup.connections < 1 or setup.processes < 1 or not setup.link > 0:
        raise ValueError(f"connections, processes and link must be above 0, got {setup}")
    setup = replace(setup, processes=min(setup.processes, setup.connections))
    cycle = max(
        service.seconds(work.size) + work.processor_time,
        setup.connections * work.size / setup.link,
        setup.connections / setup.processes * work.processor_time,
    )
    # Some thousand requests, and some of each connection.
    seconds = max(_LEAST_CYCLES, _LEAST_REQUESTS / setup.connections) * cycle
    simulation = _Simulation(work, service, setup)
    simulation.start()
    simulation.run(seconds)
    handled, requests, busy = simulation.handled, simulation.requests, simulation.busy()
    simulation.most_held = simulation.held
    simulation.run(2 * seconds)
    return Simulated(
        rate=(simulation.handled - handled) / seconds,
        # Work is booked when it is taken on, which may be a little before it is done.
        cores=min(float(setup.processes), (simulation.busy() - busy) / seconds),
        requests=simulation.requests - requests,
        held=simulation.most_held,
    )
