"""The model against real sockets: a client on a server that answers as slowly as told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3torch.client import GetRequest, S3Client, S3ClientConfig
from s3torch.harness.scale.costs import Costs
from s3torch.harness.scale.model import Prediction, Service, WorkKind, predict, work_of
from s3torch.harness.scale.pacing import PacingServer
from s3torch.harness.servers._address import only_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CASES", "TOLERANCE", "Case", "Checked", "check_model", "hold_against_model"]

TOLERANCE = 0.25
"""By how much measured and predicted may differ, as a part of the prediction."""
_ASSUMED = 1024 * 1024  # what get_many takes an object of unknown size for
_LOOPBACK = 100e9  # bytes a second: no bound


@dataclass(frozen=True, slots=True)
class Case:
    """One set-up. A connection's cap keeps the sum far below what one core can do: connections are what is tested."""

    connections: int
    """Requests in flight, each on a connection of its own."""
    kind: WorkKind
    """Small objects, or ranges of a large one."""
    size: int
    """Bytes of each request."""
    service: Service
    """What the server is told."""
    rounds: int = 12
    """Requests of each connection."""


CASES = (
    Case(8, WorkKind.SMALL, 110_000, Service(0.030, 90e6, 0.0), rounds=40),
    Case(64, WorkKind.SMALL, 110_000, Service(0.100, 20e6, 0.0), rounds=20),
    Case(256, WorkKind.SMALL, 110_000, Service(0.400, 2e6, 0.0)),
    Case(8, WorkKind.LARGE, 1_048_576, Service(0.030, 20e6, 0.0), rounds=20),
    Case(64, WorkKind.LARGE, 1_048_576, Service(0.100, 4e6, 0.0)),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A prediction beside what was measured."""

    case: Case
    """The set-up."""
    predicted: Prediction
    """By the model."""
    rate: float
    """Bytes a second, measured."""

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.rate / self.predicted.rate

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than the tolerance."""
        return abs(self.ratio - 1) <= TOLERANCE


def hold_against_model(costs: Costs, case: Case, rate: float) -> Checked:
    """Put what was measured of a set-up beside its prediction.

    Args:
        costs: For the prediction.
        case: The set-up.
        rate: Bytes a second, measured.
    """
    work = work_of(case.kind, costs.plain, size=case.size)
    predicted = predict(work, _LOOPBACK, case.service, connections=case.connections, processes=1)
    return Checked(case, predicted, rate)


def check_model(costs: Costs, case: Case) -> Checked:
    """Run one set-up and predict it.

    Args:
        costs: For the prediction.
        case: The set-up.

    Raises:
        S3Exception: The client failed.
    """
    pacing = PacingServer(first_byte=case.service.first_byte, rate=case.service.rate)
    with pacing as server, only_environment(server.env()):
        config = S3ClientConfig(
            unsigned=True, force_path_style=True, window=case.connections, window_bytes=case.connections * 4 * _ASSUMED
        )
        with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:
            _read(client, case, case.connections)  # opens the connections
            started = time.perf_counter()
            count = case.rounds * case.connections
            _read(client, case, count)
            seconds = time.perf_counter() - started
    return hold_against_model(costs, case, count * case.size / seconds)


def _read(client: S3Client, case: Case, count: int) -> None:
    for result in client.get_many(_requests(case, count)):
        if len(result.data) != case.size:
            raise OSError(f"got {len(result.data)} bytes, not {case.size}")


def _requests(case: Case, count: int) -> Iterator[GetRequest]:
    if case.kind is WorkKind.SMALL:
        for number in range(count):
            yield GetRequest("bucket", f"{number}-{case.size}")
    else:
        for number in range(count):
            yield GetRequest("bucket", f"large-{count * case.size}", number * case.size, (number + 1) * case.size)
