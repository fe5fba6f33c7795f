"""Every scenario works in its smallest form for our subjects, and what only scenarios use does what it says."""

from __future__ import annotations

import os
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.bench.environments import PEERS, WORKSPACE, requirements
from s3torch.harness.bench.lister import PREFIX, Catalog, ListingServer, first_keys, key_name
from s3torch.harness.bench.process import SubjectHere
from s3torch.harness.bench.results import Measured
from s3torch.harness.bench.runner import Runner, Settings, scaled
from s3torch.harness.bench.scenario import MIB, Entry, Role, Scenario, Server, absent
from s3torch.harness.bench.scenarios import ALL_SCENARIOS
from s3torch.harness.bench.subjects.loading import BATCH, dealt_keys
from s3torch.harness.bench.subjects.measure import CountingSink, Run, measure, percentile
from s3torch.harness.bench.subjects.task import Subject, Task
from s3torch.harness.servers import Origin, OriginUnavailableError

pytestmark = pytest.mark.timeout(300)

NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
OURS = Entry("ours", Role.OURS, WORKSPACE, "connector:listing")


# ---- scenarios


def smallest(scenario: Scenario, entry: Entry) -> Scenario:
    """The scenario with one subject, as small as it can be, on a server that runs anywhere."""
    server = scenario.server if scenario.server in (Server.LISTING, Server.NONE) else Server.MOTO
    size = min(scenario.size, 2 * MIB) if scenario.count == 1 else min(scenario.size, 1000)
    count = min(scenario.count, 2100 if server is Server.LISTING else 60)
    return replace(
        scenario,
        server=server,
        entries=(entry,),
        size=size,
        count=count,
        quick_count=count,
        spend=0.0,
        is_counted=False,
        requirements=(),
    )


def every_kind_of_ours() -> Iterator[Any]:
    """Our subjects, each kind of work once: where a server is slow or speaks TLS nothing else is done."""
    seen = set()
    for scenario in ALL_SCENARIOS:
        for entry in scenario.entries:
            kind = (entry.subject, tuple(sorted(map(str, entry.options.items()))), scenario.content, scenario.chosen)
            if entry.role is Role.OURS and kind not in seen:
                seen.add(kind)
                yield pytest.param(scenario, entry, id=f"{scenario.name}-{entry.name}")


@pytest.fixture(scope="module")
def here() -> Iterator[Runner]:
    with Runner(Settings(repeat=1, quick=True), launch=SubjectHere) as runner:
        yield runner


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Runner]:
    with Runner(Settings(repeat=1, quick=True)) as runner:
        yield runner


@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled",
    "ignore:The given buffer is not writable",
    "ignore:'set_vital' is deprecated",
)
@pytest.mark.parametrize(("scenario", "entry"), list(every_kind_of_ours()))
def test_runs_ours_in_its_smallest_form(here: Runner, elsewhere: Runner, scenario: Scenario, entry: Entry) -> None:
    # Workers are forked, which a process with the threads of other tests should not do.
    runner = elsewhere if entry.options.get("workers") else here
    (measured,) = runner.run(smallest(scenario, entry)).measured
    assert measured.failure is None
    assert len(measured.runs) == 1
    if entry.subject.startswith(("connector_loader:", "connector:serial", "ours:many")):
        assert measured.first is not None
        assert measured.p50 is not None
        assert measured.p99 is not None
        assert 0 < measured.p50 <= measured.p99


def test_every_scenario_has_a_floor_the_original_and_ours() -> None:
    for scenario in ALL_SCENARIOS:
        assert {Role.FLOOR, Role.ORIGINAL, Role.OURS} <= {entry.role for entry in scenario.entries}, scenario.name


def test_every_peer_has_an_environment_that_is_known() -> None:
    known = {WORKSPACE, *PEERS}
    for scenario in ALL_SCENARIOS:
        for entry in scenario.entries:
            assert entry.absence is not None or entry.environment in known, entry.name
    assert all(any(each.startswith("torch") for each in requirements(name)) for name in PEERS)


def test_a_peer_that_cannot_take_part_is_shown_with_the_reason(here: Runner) -> None:
    scenario = replace(
        smallest(ALL_SCENARIOS[0], OURS), server=Server.LISTING, entries=(absent("Tar", "it reads tar shards"),)
    )
    (measured,) = here.run(scenario).measured
    assert measured.entry.name == "Tar"
    assert measured.failure == "cannot take part: it reads tar shards"


def test_a_quick_run_needs_no_nginx(monkeypatch: pytest.MonkeyPatch, dummy_aws_env: None) -> None:
    def refuse(_: Origin) -> None:
        raise OriginUnavailableError("install nginx")

    monkeypatch.setattr(Origin, "start", refuse)
    serial = next(scenario for scenario in ALL_SCENARIOS if scenario.name == "serial")
    floors = tuple(entry for entry in serial.entries if entry.role is Role.FLOOR)
    scenario = replace(serial, entries=floors, size=1000, quick_count=10)
    with Runner(Settings(repeat=1, quick=True), launch=SubjectHere) as runner:
        outcome = runner.run(scenario)
        assert [measured.failure for measured in outcome.measured] == [None, None]
        # What a request is, is the same everywhere.
        assert [(measured.requests, measured.objects) for measured in outcome.measured] == [(10, 10), (10, 10)]
    with Runner(Settings(repeat=1), launch=SubjectHere) as runner:
        assert runner.run(scenario).skipped == "install nginx"


def test_a_quick_run_has_as_many_objects_as_the_scenario_needs() -> None:
    listing = next(scenario for scenario in ALL_SCENARIOS if scenario.name == "listing")
    assert scaled(listing, Settings(quick=True)).count == 3000
    assert scaled(listing, Settings()).count == 100_000


# ---- figures


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 102), 0.99) == 100


def test_waits_leave_out_what_the_consumer_does_itself() -> None:
    sink = CountingSink(check=True, spend=0.02)
    sink.start()
    for _ in range(10):
        sink(b"data")
    assert sink.count == 10
    assert len(sink.waits) == 10
    assert min(sink.waits[1:]) < 0.01  # of 0.02 spent before each; a busy machine may stretch most of them


def test_a_run_without_deliveries_has_no_waits_and_workers_are_added_to_the_peak() -> None:
    alone = measure(Subject(lambda _: b"data"), check=True, spend=0.0)
    assert (alone.first, alone.p50, alone.p99) == (None, None, None)
    together = measure(Subject(lambda _: b"data", workers_peak=lambda: 1 << 50), check=True, spend=0.0)
    assert together.peak >= 1 << 50


def test_figures_are_medians_over_the_runs() -> None:
    def run(first: float | None, p50: float | None, p99: float | None) -> Run:
        return Run(1.0, 1.0, 0, 1, 1, 0, first, p50, p99)

    measured = Measured(OURS, [run(1.0, 0.1, 3.0), run(2.0, 0.2, 4.0), run(9.0, 0.9, 5.0)])
    assert (measured.first, measured.p50, measured.p99) == (2.0, 0.2, 4.0)
    whole = Measured(OURS, [run(None, None, None)])
    assert (whole.first, whole.p50, whole.p99) == (None, None, None)


# ---- loader


@given(st.integers(1, 200), st.integers(0, 4))
def test_workers_deliver_dealt_keys_in_order(count: int, workers: int) -> None:
    keys = [f"{number:03d}" for number in range(max(count, workers))]
    task = Task("http://127.0.0.1:1", "bucket", keys, 1, options={"workers": workers})
    dealt = dealt_keys(task)
    assert sorted(dealt) == keys
    batch = min(BATCH, len(keys) // max(1, workers))
    # As torch.utils.data takes batches: from one worker after the other, until each is exhausted.
    shards = [dealt[worker :: max(1, workers)] for worker in range(max(1, workers))]
    delivered: list[str] = []
    while any(shards):
        for number, shard in enumerate(shards):
            delivered += shard[:batch]
            shards[number] = shard[batch:]
    assert delivered == keys


# ---- listing


def read_page(text: str) -> tuple[list[str], list[str], str | None]:
    root = ET.fromstring(text)  # noqa: S314  # our own server made it
    keys = [each.text or "" for each in root.findall("s3:Contents/s3:Key", NAMESPACE)]
    prefixes = [each.text or "" for each in root.findall("s3:CommonPrefixes/s3:Prefix", NAMESPACE)]
    assert root.findtext("s3:KeyCount", None, NAMESPACE) == str(len(keys) + len(prefixes))
    return keys, prefixes, root.findtext("s3:NextContinuationToken", None, NAMESPACE)


CATALOG = Catalog(2500)
KEYS = [key_name(number) for number in range(2500)]


@given(
    prefix=st.sampled_from(["", "k", "keys", "keys/", "keys/00001", "keys/00001/", "keys/00001/000010", "none"]),
    delimiter=st.sampled_from(["", "/"]),
    limit=st.sampled_from([1, 3, 700, 1000, 5000]),
    after=st.sampled_from(["", "a", KEYS[0], KEYS[999], KEYS[2499], "z"]),
)
def test_lists_as_the_rules_say(prefix: str, delimiter: str, limit: int, after: str) -> None:
    expected_keys, expected_prefixes = [], []
    for key in KEYS:
        if not key.startswith(prefix) or key <= after:
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            folder = prefix + rest.partition(delimiter)[0] + delimiter
            if folder not in expected_prefixes:
                expected_prefixes.append(folder)
        else:
            expected_keys.append(key)
    arguments = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(limit), "start-after": after}
    keys: list[str] = []
    prefixes: list[str] = []
    for _ in range(60):
        found_keys, found_prefixes, token = read_page(CATALOG.page("bucket", arguments))
        assert len(found_keys) + len(found_prefixes) <= min(limit, 1000)
        keys += found_keys
        prefixes += found_prefixes
        if token is None:
            assert (keys, prefixes) == (expected_keys, expected_prefixes)
            return
        arguments["continuation-token"] = token
    # So many single keys are enough.
    assert keys == expected_keys[: len(keys)]
    assert prefixes == expected_prefixes[: len(prefixes)]


@pytest.mark.usefixtures("dummy_aws_env")
def test_boto3_and_ours_can_list_and_the_server_ends() -> None:
    with ListingServer(2100, seconds=0.001) as server:
        ours = S3Client("us-east-1", endpoint=server.endpoint, s3client_config=S3ClientConfig(force_path_style=True))
        found = [info.key for page in ours.list_objects("bucket", PREFIX) for info in page.object_info]
        assert found == KEYS[:2100]
        client = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=server.endpoint,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        page = client.list_objects_v2(Bucket="bucket", Prefix=PREFIX, Delimiter="/")
        assert [each["Prefix"] for each in page["CommonPrefixes"]] == [f"{PREFIX}{n:05d}/" for n in range(3)]
        port = urllib.parse.urlsplit(server.endpoint).port
        process = server._process
        assert process is not None
    assert not process.is_running()
    assert port
    if hasattr(os, "kill"):
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


# ---- keys that are only listed


@pytest.mark.parametrize("count", [1000, 10_000, 100_000])
def test_a_prefix_has_just_the_first_keys(count: int) -> None:
    prefix = first_keys(count)
    assert all(key_name(number).startswith(prefix) for number in (0, count // 2, count - 1))
    assert not key_name(count).startswith(prefix)


@pytest.mark.parametrize("count", [1, 999, 2000, 110_000])
def test_no_prefix_has_just_so_many(count: int) -> None:
    with pytest.raises(ValueError, match="no prefix has just"):
        first_keys(count)


@pytest.mark.usefixtures("dummy_aws_env")
def test_a_subject_may_list_fewer_keys_than_there_are(here: Runner) -> None:
    listing = next(scenario for scenario in ALL_SCENARIOS if scenario.name == "listing")
    (measured,) = here.run(
        replace(listing, entries=(replace(OURS, objects=1000),), count=2100, quick_count=2100, is_counted=False)
    ).measured
    assert (measured.failure, measured.objects) == (None, 1000)
