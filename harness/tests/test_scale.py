"""The model of a host against hand-made sums, the simulation, real sockets, and the page that shows it all."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.scale import Costs, PathCosts, Service, Setup, Work, WorkKind, plan, predict, simulate, work_of
from s3torch.harness.scale.costs import CostsError
from s3torch.harness.scale.measuring import measure_costs
from s3torch.harness.scale.model import gigabits
from s3torch.harness.scale.pacing import PacingServer
from s3torch.harness.scale.reality import CASES, Case, check_model
from s3torch.harness.scale.tables import compare, needs_table

DOCS = Path(__file__).parents[2] / "docs"
PATH = PathCosts(request=50e-6, object_byte=2e-10, read_byte=2.5e-10, write_byte=1.5e-10, connection=4096)
COSTS = Costs("somewhere", PATH, replace(PATH, read_byte=7e-10, connection=500_000))
STEADY = Service(variation=0.0)


# The model ---------------------------------------------------------------------------------------------------------


def test_little_s_law_gives_the_connections() -> None:
    work = Work(WorkKind.LARGE, 9_000_000, request=0.0, byte=0.0, connection=0)
    needs = plan(work, 900e6, Service(first_byte=0.095, rate=90e6))
    # 100 requests a second, each of 0.095 s + 0.1 s: 19.5 on average, and a tenth to spare.
    assert needs.requests == pytest.approx(100)
    assert needs.connections == 22
    assert needs.in_flight == pytest.approx(900e6 * 0.195, abs=1)


def test_the_utilization_law_gives_cores_and_processes() -> None:
    work = Work(WorkKind.LARGE, 1_000_000, request=1e-3, byte=1e-9, connection=0)
    needs = plan(work, 1e9, STEADY)
    assert needs.cores == pytest.approx(1000 * 2e-3)
    assert needs.processes == math.ceil(2.0 / 0.8)


@pytest.mark.parametrize(
    ("connections", "processes", "limit", "rate"),
    [(10, 8, "connections", 10 * 1e6 / 0.102), (1000, 8, "link", 1e9), (1000, 1, "processor", 1e6 / 2e-3)],
)
def test_the_least_bound_holds(connections: int, processes: int, limit: str, rate: float) -> None:
    work = Work(WorkKind.LARGE, 1_000_000, request=1e-3, byte=1e-9, connection=0)
    service = Service(first_byte=0.09, rate=100e6)
    found = predict(work, 1e9, service, connections=connections, processes=processes)
    assert found.limit == limit
    assert found.rate == pytest.approx(rate)


def test_a_late_object_holds_up_those_behind_it() -> None:
    work = work_of(WorkKind.SMALL, PATH)
    steady = plan(work, gigabits(100), STEADY).connections
    varying = plan(work, gigabits(100), Service()).connections
    assert varying > 1.2 * steady
    assert plan(replace(work, in_order=False), gigabits(100), Service()).connections == steady


@pytest.mark.parametrize("kind", list(WorkKind))
def test_what_is_planned_is_predicted_to_fill_the_link(kind: WorkKind) -> None:
    for link in (25, 100, 400):
        needs = plan(work_of(kind, PATH), gigabits(link), Service())
        found = predict(
            work_of(kind, PATH), gigabits(link), Service(), connections=needs.connections, processes=needs.processes
        )
        assert found.limit == "link"
        assert found.cores == pytest.approx(needs.cores)


@pytest.mark.parametrize("arguments", [{"link": 0.0}, {"link": math.inf}, {"utilization": 0.0}, {"utilization": 1.5}])
def test_impossible_plans_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        plan(work_of(WorkKind.LARGE, PATH), **{"link": 1e9, "service": Service(), **arguments})  # type: ignore[arg-type]  # mixed types


# The simulation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [8, 64, 256])
@pytest.mark.parametrize("kind", list(WorkKind))
@pytest.mark.parametrize("link", [25, 100])
def test_model_and_simulation_agree(kind: WorkKind, link: int, connections: int) -> None:
    work = work_of(kind, PATH)
    processes = plan(work, gigabits(link), Service()).processes
    predicted = predict(work, gigabits(link), Service(), connections=connections, processes=processes)
    simulated = simulate(work, Service(), Setup(connections, processes, gigabits(link)))
    # The bound for delivery in order is an estimate from below.
    assert 0.93 < simulated.rate / predicted.rate < (1.18 if predicted.limit == "order" else 1.07)


@pytest.mark.parametrize("kind", [WorkKind.LARGE, WorkKind.SMALL])
def test_what_is_planned_fills_the_link_when_simulated(kind: WorkKind) -> None:
    work = work_of(kind, PATH)
    needs = plan(work, gigabits(100), Service())
    simulated = simulate(work, Service(), Setup(needs.connections, needs.processes, gigabits(100)))
    assert simulated.rate > 0.96 * gigabits(100)
    assert simulated.cores == pytest.approx(needs.cores, rel=0.06)
    if kind is WorkKind.SMALL:
        assert simulated.held <= needs.memory


def test_one_slow_process_is_the_limit() -> None:
    work = Work(WorkKind.LARGE, 1_000_000, request=1e-3, byte=9e-9, connection=0)
    simulated = simulate(work, STEADY, Setup(connections=64, processes=1, link=gigabits(100)))
    assert simulated.rate == pytest.approx(1e6 / 10e-3, rel=0.02)
    assert simulated.cores == pytest.approx(1.0, rel=0.02)


def test_a_simulation_is_repeatable() -> None:
    work = work_of(WorkKind.SMALL, PATH)
    first, again, other = (simulate(work, Service(), Setup(64, 2, gigabits(25), seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_simulation_without_connections_is_refused() -> None:
    with pytest.raises(ValueError, match="connections"):
        simulate(work_of(WorkKind.LARGE, PATH), Service(), Setup(0, 1, 1e9))


# Costs -------------------------------------------------------------------------------------------------------------


def test_costs_survive_their_file(tmp_path: Path) -> None:
    COSTS.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == COSTS


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"machine": "x", "plain": {}, "tls": {}}', '{"machine": "x", "plain": 1}']
)
def test_what_is_no_costs_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(CostsError):
        Costs.load(tmp_path / "costs.json")


def test_costs_cannot_be_negative() -> None:
    with pytest.raises(CostsError, match="read_byte"):
        replace(PATH, read_byte=-1.0)


def test_measured_costs_are_of_this_world() -> None:
    found = measure_costs(large=32 * 1024**2, objects=100, repeat=1)
    for path in (found.plain, found.tls):
        assert 5e-6 < path.request < 5e-3
        assert 1e-11 < path.read_byte < 1e-7
        assert 1e-11 < path.write_byte < 1e-7
    assert found.tls.connection > found.plain.connection
    assert "AWS_ENDPOINT_URL_S3" not in os.environ


# The server and reality --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_the_pacing_server_serves_and_takes_objects(tls: bool) -> None:
    with PacingServer(tls=tls) as server:
        config = S3ClientConfig(unsigned=True, force_path_style=True, ca_bundle=server.ca_bundle)
        with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:
            assert client.read("bucket", "any-20000000") == bytes(20_000_000)
            assert client.read("bucket", "any-1000", start=10, end=20) == bytes(10)
            assert client.head_object("bucket", "any-123").size == 123
            client.put("bucket", "small", b"x")
            client.put("bucket", "large", bytes(20_000_000))
            with pytest.raises(FileNotFoundError):
                client.read("bucket", "nothing")


def test_the_pacing_server_keeps_its_pace() -> None:
    checked = check_model(COSTS, Case(4, WorkKind.LARGE, 500_000, Service(0.05, 5e6, 0.0), rounds=3))
    assert checked.rate < 1.02 * checked.predicted.rate


def test_nothing_of_the_user_s_own_reaches_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    before = dict(os.environ)
    assert check_model(COSTS, Case(2, WorkKind.SMALL, 1000, Service(0.01, 5e6, 0.0), rounds=1)).rate > 0
    assert dict(os.environ) == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.connections}x{case.size}")
def test_the_model_tells_what_sockets_do(case: Case) -> None:
    # Wider than for the figures of the page: a short run has a long end, and other tests may be running. They only make
    # it slower, so that one try of several is enough; none may be faster.
    for _ in range(6):
        checked = check_model(COSTS, replace(case, rounds=max(4, case.rounds // 3)))
        assert checked.predicted.limit == "connections"
        assert checked.ratio < 1.1
        if checked.ratio > 0.6:
            return
    pytest.fail(f"it reaches no more than {checked.ratio:.2f} of what the model tells")


# The page and the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))  # as when it is run
        return runpy.run_path(str(DOCS / "make_scale.py"))


def test_the_page_shows_what_the_model_says(made: dict[str, Any]) -> None:
    for name, text in made["files"]().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, "run: python docs/make_scale.py"


def test_the_page_s_simulation_is_the_simulation(made: dict[str, Any]) -> None:
    costs, kept, _ = made["read"]()
    again = compare(costs, Service(), links=[25], connections=[8, 64])
    found = {(each.kind, each.link, each.connections): each for each in kept}
    for each in again:
        assert found[each.kind, each.link, each.connections].simulated == pytest.approx(each.simulated, rel=0.01)
        assert 0.9 < each.ratio < 1.16


def test_the_page_s_sockets_agree_with_the_model(made: dict[str, Any]) -> None:
    checked = made["read"]()[2]
    assert len(checked) == len(CASES)
    assert all(each.agrees for each in checked)


def test_a_table_names_each_link() -> None:
    markdown = needs_table(COSTS, Service(), links=[10]).to_markdown()
    assert markdown.count("| 10 |") == 2 * len(WorkKind)


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.harness.scale", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_command_prints_tables_for_given_costs(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps(asdict(COSTS)))
    done = run_command("--costs", str(tmp_path / "costs.json"), "--gbps", "10")
    assert done.returncode == 0, done.stderr
    assert "somewhere" in done.stdout
    assert "large reads, 10 Gbit/s" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--costs", "/no/such/file"), ("--costs", "x", "--save", "y"), ("--gbps", "0"), ("--rate", "0"), ("--nothing",)],
)
def test_bad_arguments_are_one_clear_line(arguments: tuple[str, ...]) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
