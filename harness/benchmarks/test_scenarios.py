"""Every scenario of the benchmark as a pytest-benchmark test: our subjects and the floors, comparable over time.

``pytest harness/benchmarks --benchmark-autosave`` keeps a run, ``--benchmark-compare`` holds the next one against it,
and ``--benchmark-disable`` runs each once on small objects. The table with the peers, in which subjects take turns, is
``nox -s bench``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from s3torch.harness.bench.environments import WORKSPACE
from s3torch.harness.bench.runner import Runner, Settings
from s3torch.harness.bench.scenario import Entry, Scenario
from s3torch.harness.bench.scenarios import ALL_SCENARIOS
from s3torch.harness.servers import OriginUnavailableError

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

CASES = [
    pytest.param(scenario, entry, id=f"{scenario.name}-{entry.name}")
    for scenario in ALL_SCENARIOS
    for entry in scenario.entries
    if entry.environment == WORKSPACE
]


class SubjectClock:
    """Goes as far as subjects say they took: setting up and checking bytes is none of it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Sum of all measured runs."""

    def __call__(self) -> float:
        return self.seconds


CLOCK = SubjectClock()


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    is_quick = bool(request.config.getoption("--benchmark-disable"))
    with Runner(Settings(quick=is_quick)) as runner:
        yield runner


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("scenario", "entry"), CASES)
def test_subject(benchmark: Any, runner: Runner, scenario: Scenario, entry: Entry) -> None:
    def play() -> None:
        CLOCK.seconds += player.play().seconds

    try:
        with runner.player(scenario, entry) as player:
            benchmark.group = scenario.name
            benchmark.pedantic(play, rounds=5)
            measured = player.result()
    except OriginUnavailableError as error:
        pytest.skip(str(error))
    assert measured.runs
    benchmark.extra_info.update(
        cpu_seconds=measured.cpu, extra_memory=measured.extra_memory, requests=measured.requests, sent=measured.sent
    )
