"""A dataset counts what it does, in every process, for next to nothing."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from torch.utils.data import DataLoader

from s3torch.client import S3ClientConfig
from s3torch.datasets import DatasetStats, S3IterableDataset, S3MapDataset
from s3torch.datasets._meter import Meter
from s3torch.datasets.stats import instrument
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire, object_answer
from s3torch.readers import S3Reader, S3ReaderConstructor

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, Served

OBJECTS = {f"{index:02}": bytes(index * 100) for index in range(20)}
SIZE = sum(map(len, OBJECTS.values()))


def read(reader: S3Reader) -> int:
    return len(reader.read())


def make(memory: Place, **options: Any) -> S3IterableDataset:
    memory.fill(OBJECTS)
    options = {"transform": read, "s3client_config": memory.config(window=4), **options}
    return S3IterableDataset.from_prefix("s3://bucket", region="us-east-1", **options)


def test_nothing_is_done_at_first(memory: Place) -> None:
    assert make(memory).stats() == DatasetStats(0, 0, 0, 0, 0.0, 0.0, 0, 0, (), ())


def test_objects_bytes_requests_and_the_window(memory: Place) -> None:
    dataset = make(memory)
    for epoch in (1, 2):
        list(dataset)
        stats = dataset.stats()
        assert (stats.objects, stats.bytes) == (20 * epoch, SIZE * epoch)
        assert stats.requests >= 19 * epoch  # an empty object may need none
        assert (stats.retries, stats.skipped) == (0, 0)
        assert stats.window_peak == 4
        assert 1 < stats.window_mean < 4
        assert len(stats.processes) == 1
        assert stats.processes[0].number == 0


def test_it_counts_while_it_is_iterated(memory: Place) -> None:
    dataset = make(memory)
    source: Any = iter(dataset)
    for count in range(1, 8):
        next(source)
        assert dataset.stats().objects == count
    source.close()
    assert dataset.stats().objects == 7


def test_single_items_and_batches_count(memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=memory.config()
    )
    assert dataset[3] == 300
    assert dataset.__getitems__([1, 2]) == [100, 200]
    assert (dataset.stats().objects, dataset.stats().bytes, dataset.stats().requests) == (3, 600, 3)


def test_readers_of_ranges_have_no_window(memory: Place) -> None:
    dataset = make(memory, reader_constructor=S3ReaderConstructor.range_based(buffer_size=0))
    list(dataset)
    stats = dataset.stats()
    assert (stats.objects, stats.bytes, stats.window_peak, stats.window_mean) == (20, SIZE, 0, 0)


def test_a_pickle_counts_from_zero(memory: Place) -> None:
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=S3ClientConfig(engine="memory")
    )
    with closing(dataset._meter.begin(None)) as session:
        session.made()
    assert dataset.stats().objects == 1
    again = pickle.loads(pickle.dumps(dataset))
    assert again.stats().objects == 0
    with closing(again._meter.begin(None)) as session:
        session.made()
        session.made()
    assert (again.stats().objects, dataset.stats().objects) == (2, 1)


@pytest.mark.timeout(300)  # importing torch in every process takes long on a busy machine
@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.skipif(sys.platform == "win32", reason="it cannot fork")),
        pytest.param("spawn", marks=pytest.mark.slow),
    ],
)
def test_workers_are_counted_each_and_together(served: Served, method: str) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri, region=served.region, endpoint=served.endpoint, transform=read, enable_sharding=True
    )
    epochs = 2 if method == "fork" else 1
    for _ in range(epochs):
        loader: Any = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120)
        assert sorted(loader) == sorted(map(len, served.objects.values()))
    stats = dataset.stats()
    assert stats.objects == 23 * epochs
    assert stats.bytes == sum(map(len, served.objects.values())) * epochs
    assert sorted(each.objects for each in stats.processes) == [11 * epochs, 12 * epochs]
    assert stats.requests == sum(each.requests for each in stats.processes) == (23 + 2) * epochs  # two listings
    assert stats.waited_s > 0
    assert len({each.pid for each in stats.processes}) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="spawned workers are tried above")
def test_processes_that_work_at_once_have_rows_of_their_own() -> None:
    meter = Meter()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    children = [context.Process(target=_count, args=(meter, number, barrier)) for number in (100, 1000, 10_000)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sorted(each.objects for each in meter.read().processes) == [100, 1000, 10_000]


def _count(meter: Meter, number: int, barrier: Any) -> None:
    session = meter.begin(None)
    barrier.wait(60)
    for _ in range(number):
        session.made()
        session.flush()
    session.close()


def test_time_waited_and_retries_are_counted() -> None:
    tried: set[str] = set()

    def answer(request: Request, wire: Wire) -> None:
        time.sleep(0.02)
        if request.path in tried:
            object_answer(bytes(1000))(request, wire)
        else:
            tried.add(request.path)
            wire.respond(503)

    with ScriptedServer(answer) as server:
        dataset = S3IterableDataset.from_objects(
            [f"s3://bucket/{index}" for index in range(3)],
            region="us-east-1",
            endpoint=server.endpoint,
            transform=read,
            s3client_config=S3ClientConfig(unsigned=True, force_path_style=True),
        )
        assert list(dataset) == [1000] * 3
    stats = dataset.stats()
    assert (stats.requests, stats.retries, stats.bytes) == (6, 3, 3000)
    assert 0.03 < stats.waited_s < 30


def test_counting_costs_less_than_a_hundredth_of_an_object() -> None:
    # An object costs the client some 60 microseconds where a call that adds up three attributes costs 0.1, and more
    # where that costs more: a slow machine is no reason to fail.
    meter = Meter()
    session = meter.begin(None)
    yardstick = _Yardstick()
    counting, adding = ([_seconds_of(call) for _ in range(20)] for call in (session.made, yardstick.add))
    session.close()
    assert min(counting) < 6 * min(adding)
    assert meter.read().objects == 20 * 10_000


class _Yardstick:
    def __init__(self) -> None:
        self.a = self.b = self.c = 0

    def add(self) -> None:
        self.a += 1
        self.b += 1
        self.c += 1


def _seconds_of(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, 10_000):
        call()
    return time.perf_counter() - start


# ---------------------------------------------------------------------------------------------------------------- bars


def test_a_bar_shows_objects_and_bytes(memory: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    assert len(list(make(memory, progress=True))) == 20
    shown = capsys.readouterr().err
    assert re.search(r"20\S* objects", shown), shown
    assert "GB/s" in shown
    assert set(threading.enumerate()) == before


def test_only_the_first_worker_of_the_first_rank_shows_a_bar(
    memory: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make(memory, progress=True, enable_sharding=True)
    loader: Any = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert len(list(loader)) == 20
    assert capfd.readouterr().err.count("0.00 objects [00:00") == 1
    monkeypatch.setenv("RANK", "1")
    assert len(list(make(memory, progress=True))) == 20
    assert "objects" not in capfd.readouterr().err


def test_without_tqdm_the_remedy_is_said(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 's3torch-datasets\[progress\]'"):
        make(memory, progress=True)


# ------------------------------------------------------------------------------------------------------- OpenTelemetry


def observed(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = [each for one in data.resource_metrics for scope in one.scope_metrics for each in scope.metrics]
    points: dict[str, Any] = {each.name: each.data.data_points for each in found}
    return {name: sum(point.value for point in each) for name, each in points.items()}


def test_opentelemetry_observes_a_dataset(memory: Place) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    dataset = make(memory)
    instrument(dataset, provider.get_meter("test"))
    assert not any(observed(reader).values())
    list(dataset)
    found = observed(reader)
    assert found["s3torch.dataset.objects"] == 20
    assert found["s3torch.dataset.received"] == SIZE
    assert set(found) == {
        f"s3torch.dataset.{name}" for name in ("objects", "received", "requests", "retries", "waited", "skipped")
    }
    del dataset
    assert not any(observed(reader).values())  # it is not kept alive
    provider.shutdown()


def test_without_opentelemetry_the_remedy_is_said(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(memory)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 's3torch-datasets\[otel\]'"):
        instrument(dataset)
