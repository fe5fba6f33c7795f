"""What loading asks of the store: only the bytes needed, each once, and one version of each file."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.loading import URI, Chunks, Place, load, save_stock, upload
from torch.distributed.checkpoint.planner import ReadItem

from s3torch.client import GetRequest, ObjectChangedError, S3ClientConfig, ServerError
from s3torch.dcp import CheckpointError, CorruptCheckpointError, S3StorageReader
from s3torch.readers import S3ReaderConstructor

MIB = 1 << 20


@pytest.fixture
def place() -> Place:
    return Place()


def layers(count: int, elements: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {f"layer{number:03}": torch.randn(elements) for number in range(count)}


def save(place: Place, state: dict[str, Any], folder: Path, how: str) -> None:
    if how == "stock":
        save_stock(state, folder)
        upload(folder, place.store)
    else:
        place.save(state)


def size(get: GetRequest) -> int:
    return (get.end or 0) - (get.start or 0)


@pytest.mark.parametrize("how", ["stock", "ours"])
def test_some_tensors_cost_their_bytes(place: Place, tmp_path: Path, how: str) -> None:
    saved = layers(64, 100_000)
    save(place, saved, tmp_path, how)
    wanted = {name: torch.zeros(100_000) for name in ("layer003", "layer004", "layer017", "layer063")}
    reader = place.reader()
    place.engine.gets.clear()
    load(wanted, reader)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in wanted.items())
    data = [get for get in place.engine.gets if get.key.endswith(".distcp")]
    fetched = sum((get.end or 0) - (get.start or 0) for get in data)
    assert fetched <= 1.05 * 4 * 400_000
    if how == "ours":
        assert fetched < 4 * 400_000 + 4096  # neighbours come with what is between them
        assert len(data) == 3


@pytest.mark.parametrize("how", ["stock", "ours"])
def test_each_byte_is_fetched_once(place: Place, tmp_path: Path, how: str) -> None:
    saved: dict[str, Any] = {**layers(6, 3_000_000), **{f"small{n}": torch.randn(n) for n in range(200)}, "epoch": 1}
    save(place, saved, tmp_path, how)
    reader = place.reader()
    place.engine.gets.clear()
    load({name: torch.zeros_like(value) if name != "epoch" else None for name, value in saved.items()}, reader)
    seen: dict[str, list[tuple[int, int]]] = {}
    for get in place.engine.gets:
        if get.key.endswith(".distcp") and get.end is not None and get.start is not None:
            seen.setdefault(get.key, []).append((get.start, get.end))
    heads = 6 if how == "stock" else 0
    total = 0
    for spans in seen.values():
        long = sorted(span for span in spans if span[1] - span[0] != 4096)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(long))
        total += sum(end - start for start, end in long)
        heads -= len(spans) - len(long)
    assert heads == 0
    # A writer's own bytes around the small items are fetched with them.
    assert 6 * 12_000_000 < total < 6 * 12_000_000 + 600_000
    assert max(end - start for spans in seen.values() for start, end in spans) <= 5 * MIB


@pytest.mark.parametrize("how", ["stock", "ours"])
def test_rows_of_a_tensor_cost_their_bytes(place: Place, tmp_path: Path, how: str) -> None:
    value = torch.randn(1000, 500)
    save(place, {"value": value}, tmp_path, how)
    target = torch.zeros(130, 500)
    reader = place.reader()
    place.engine.gets.clear()
    load({"value": Chunks((1000, 500), [((600, 0), target)])}, reader)
    assert torch.equal(target, value[600:730])
    sizes = [size(get) for get in place.engine.gets if get.key.endswith(".distcp")]
    assert sizes == ([4096] if how == "stock" else []) + [130 * 2000]


def test_columns_far_apart_cost_their_bytes_and_near_ones_one_range(place: Place) -> None:
    far, near = torch.randn(8, 300_000), torch.randn(1000, 500)
    place.save({"far": far, "near": near})
    targets = torch.zeros(8, 1000), torch.zeros(1000, 100)
    reader = place.reader()
    place.engine.gets.clear()
    chunks = {
        "far": Chunks((8, 300_000), [((0, 5000), targets[0])]),
        "near": Chunks((1000, 500), [((0, 200), targets[1])]),
    }
    load(chunks, reader)
    assert torch.equal(targets[0], far[:, 5000:6000])
    assert torch.equal(targets[1], near[:, 200:300])
    sizes = sorted(size(get) for get in place.engine.gets if get.key.endswith(".distcp"))
    assert sizes == [4000] * 8 + [999 * 2000 + 400]


@pytest.mark.parametrize(("elements", "most"), [(2500, 6), (16_384, 24), (100_000, 160)])
def test_small_tensors_take_few_requests(place: Place, tmp_path: Path, elements: int, most: int) -> None:
    for how in ("ours", "stock"):
        place.clear()
        saved = layers(300, elements)
        save(place, saved, tmp_path / how, how)
        reader = place.reader()
        place.engine.gets.clear()
        found = load({name: torch.zeros(elements) for name in saved}, reader)
        assert all(torch.equal(found[name], saved[name]) for name in saved)
        assert len(place.engine.gets) <= most
        data = [get for get in place.engine.gets if get.key.endswith(".distcp")]
        assert sum(map(size, data)) <= 300 * (4 * elements + 2048)  # with the heads, and what is noted at the ends


def test_a_few_rows_of_a_small_tensor_cost_a_head_and_their_bytes(place: Place, tmp_path: Path) -> None:
    value = torch.randn(1000, 100)
    save(place, {"value": value}, tmp_path, "stock")
    target, parts = torch.zeros(100, 100), [torch.zeros(300, 100) for _ in range(2)]

    def sizes_of(*chunks: tuple[tuple[int, ...], torch.Tensor]) -> list[int]:
        reader = place.reader()
        place.engine.gets.clear()
        load({"value": Chunks((1000, 100), list(chunks))}, reader)
        return [size(get) for get in place.engine.gets if get.key.endswith(".distcp")]

    assert sizes_of(((600, 0), target)) == [4096, 100 * 400]
    assert torch.equal(target, value[600:700])
    # Together they want more than half, which comes once and without asking for the head.
    (whole,) = sizes_of(((0, 0), parts[0]), ((500, 0), parts[1]))
    assert value.nbytes < whole < value.nbytes + 4096
    assert torch.equal(parts[0], value[:300])
    assert torch.equal(parts[1], value[500:800])


def test_a_tensor_of_which_nothing_is_stored_is_an_error(place: Place, tmp_path: Path) -> None:
    save_stock({"value": torch.randn(5)}, tmp_path)
    file = tmp_path / ".metadata"
    metadata = pickle.loads(file.read_bytes())  # written a line above
    for info in metadata.storage_data.values():
        info.length = 0
    file.write_bytes(pickle.dumps(metadata))
    upload(tmp_path, place.store)
    with pytest.raises(CorruptCheckpointError, match="value"):
        load({"value": torch.zeros(5)}, place.reader())


def test_any_failing_request_is_the_error_and_nothing_is_committed(place: Place, tmp_path: Path) -> None:
    class Planner(dcp.DefaultLoadPlanner):
        committed = 0

        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            self.committed += 1

    saved = {**layers(3, 1_500_000), "turned": torch.randn(800, 700).t(), "epoch": 3}
    save_stock(saved, tmp_path)
    upload(tmp_path, place.store)
    place.engine.gets.clear()
    load({"epoch": None, **{name: torch.zeros(1_500_000) for name in layers(3, 1)}}, place.reader())
    count = len(place.engine.gets)
    assert count >= 5
    for helpers in (0, 2):
        place.engine.helpers = helpers
        for failing in range(2, count + 1):
            place.engine.gets.clear()
            place.engine.failing_get = failing
            planner = Planner()
            state = {"epoch": None, **{name: torch.zeros(1_500_000) for name in layers(3, 1)}}
            with pytest.raises(ServerError):
                load(state, place.reader(), planner=planner)
            assert planner.committed == 0
            assert state["epoch"] is None


def test_a_file_replaced_between_its_requests_is_an_error(place: Place) -> None:
    saved = layers(3, 3_000_000)
    place.save(saved)
    key = place.data_key()
    reader = place.reader()
    seen = []

    def replace_it(request: Any) -> None:
        if request.key == key:
            seen.append(request)
            if len(seen) == 3:
                place.put(key, place.data(key)[::-1])

    place.engine.before_get = replace_it
    with pytest.raises(ObjectChangedError):
        load({name: torch.zeros(3_000_000) for name in saved}, reader)


@pytest.mark.parametrize("constructor", [None, S3ReaderConstructor.dcp_optimized()])
def test_missing_and_short_files_are_named(place: Place, constructor: Any) -> None:
    saved = layers(3, 300_000)
    place.save(saved)
    key = place.data_key()
    data = place.data(key)
    for cut in (len(data) - 400_000, 500_000, 0):
        place.put(key, data[:cut])
        with pytest.raises(CorruptCheckpointError if constructor is None else Exception) as caught:
            load({name: torch.zeros(300_000) for name in saved}, place.reader(reader_constructor=constructor))
        if constructor is None:
            assert URI in str(caught.value)
            assert key in str(caught.value)
            assert "another checkpoint" in str(caught.value)
    place.store.remove("bucket", [key])
    with pytest.raises(CorruptCheckpointError, match="incomplete") as missing:
        load({name: torch.zeros(300_000) for name in saved}, place.reader(reader_constructor=constructor))
    assert URI in str(missing.value)
    assert key in str(missing.value)


def test_damaged_items_are_errors_and_never_data(place: Place, tmp_path: Path) -> None:
    saved = {"small": torch.randn(100), "large": torch.randn(100_000)}
    save_stock(saved, tmp_path)
    upload(tmp_path, place.store)
    key = place.data_key()
    data = place.data(key)
    for name, size in (("small", 100), ("large", 100_000)):
        at = data.index(saved[name].numpy().tobytes()[:64])
        pickled = data.rindex(b"ctorch._utils", 0, at)
        damaged = bytearray(data)
        damaged[pickled : pickled + 100] = bytes(100)  # the item's head
        place.put(key, bytes(damaged))
        with pytest.raises(CorruptCheckpointError, match=name):
            load({name: torch.zeros(size)}, place.reader())


def test_a_target_of_another_shape_is_told(place: Place) -> None:
    place.save({"value": torch.randn(10, 3)})
    with pytest.raises(ValueError, match="value"):
        load({"value": torch.zeros(3, 10)}, place.reader())
    with pytest.raises(RuntimeError, match="missing"):
        load({"missing": torch.zeros(3, 10)}, place.reader())

    class Planner(dcp.DefaultLoadPlanner):
        def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
            return torch.zeros(2)

    with pytest.raises(CheckpointError, match="value") as caught:
        load({"value": torch.zeros(10, 3)}, place.reader(), planner=Planner())
    assert URI in str(caught.value)


def test_partial_loading(place: Place) -> None:
    saved = {"model": layers(3, 10), "epoch": 4}
    place.save(saved)
    state = {"model": {"layer001": torch.zeros(10), "other": torch.ones(2)}, "epoch": 0}
    load(state, place.reader(), planner=dcp.DefaultLoadPlanner(allow_partial_load=True))
    assert torch.equal(state["model"]["layer001"], saved["model"]["layer001"])  # type: ignore[index]
    assert state["epoch"] == 4
    assert torch.equal(state["model"]["other"], torch.ones(2))  # type: ignore[index]


def test_a_planner_that_makes_its_own_tensors_stays_within_the_budget(place: Place) -> None:
    saved = layers(40, 250_000)
    place.save(saved)

    class Planner(dcp.DefaultLoadPlanner):
        held = 0
        most = 0

        def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
            self.held += 1
            self.most = max(self.most, self.held)
            return torch.empty(250_000)

        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            self.held -= 1
            self.state_dict[read_item.dest_index.fqn].copy_(tensor)

    planner = Planner()
    found = load({name: torch.zeros(250_000) for name in saved}, place.reader(memory_budget=8 * MIB), planner=planner)
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert planner.most <= 6
    assert planner.held == 0


class Rotation:
    """A transform of streams: every byte moves by one."""

    @staticmethod
    def registry_name() -> str:
        return "stream.rotation"

    @staticmethod
    def from_descriptor(version: str) -> Rotation:
        return Rotation()

    def get_descriptor(self) -> str:
        return "stream.rotation/1"

    def transform_to(self, output: Any) -> Any:
        class Out(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                output.write(bytes((byte + 1) % 256 for byte in bytes(data)))
                return memoryview(data).nbytes

        return Out()

    def transform_from(self, stream: Any) -> Any:
        return io.BytesIO(bytes((byte - 1) % 256 for byte in stream.read(-1)))


def test_transformed_items_are_undone(place: Place, tmp_path: Path) -> None:
    extension = pytest.importorskip("torch.distributed.checkpoint._extension")

    class Registered(Rotation, extension.StreamTransformExtension):  # type: ignore[misc,name-defined]  # found at run time
        @staticmethod
        def from_descriptor(version: str) -> Registered:
            return Registered()

    registry = extension.ExtensionRegistry()
    registry.register(Registered)
    saved = {"value": torch.randn(100, 30), "epoch": 4}
    save_stock(saved, tmp_path, _extensions=[Registered()])
    upload(tmp_path, place.store)
    state = {"value": torch.zeros(100, 30), "epoch": 0}
    load(state, place.reader(_extension_registry=registry))
    assert torch.equal(state["value"], saved["value"])  # type: ignore[arg-type]
    assert state["epoch"] == 4


@pytest.mark.parametrize("how", ["stock", "ours"])
@pytest.mark.parametrize(
    "constructor",
    [
        S3ReaderConstructor.sequential(),
        S3ReaderConstructor.range_based(),
        S3ReaderConstructor.range_based(buffer_size=0),
        S3ReaderConstructor.dcp_optimized(),
        S3ReaderConstructor.dcp_optimized(max_gap_size=0),
    ],
    ids=["sequential", "ranged", "unbuffered", "dcp", "dcp without gaps"],
)
def test_readers_of_the_contract(place: Place, tmp_path: Path, how: str, constructor: Any) -> None:
    saved: dict[str, Any] = {**layers(20, 30_000), "turned": torch.randn(300, 200).t(), "epoch": 4}
    save(place, saved, tmp_path, how)
    names = ["layer017", "layer003", "turned", "layer004"]
    state: dict[str, Any] = {name: torch.zeros_like(saved[name]) for name in names}
    half = torch.zeros(10_000)
    state["layer010"], state["epoch"] = Chunks((30_000,), [((5000,), half), ((20_000,), torch.zeros(100))]), 0
    load(state, place.reader(reader_constructor=constructor))
    assert all(torch.equal(state[name], saved[name]) for name in names)
    assert torch.equal(half, saved["layer010"][5000:15_000])
    assert state["epoch"] == 4


def test_the_readers_of_a_plan_are_told_its_ranges(place: Place) -> None:
    saved = layers(20, 30_000)
    place.save(saved)
    constructor = S3ReaderConstructor.dcp_optimized(max_gap_size=0)
    place.engine.gets.clear()
    load(
        {"layer007": torch.zeros(30_000), "layer002": torch.zeros(30_000)}, place.reader(reader_constructor=constructor)
    )
    fetched = sum((get.end or 0) - (get.start or 0) for get in place.engine.gets if get.key.endswith(".distcp"))
    assert 240_000 <= fetched <= 244_000


def test_a_reader_is_used_again_for_other_checkpoints(place: Place) -> None:
    first, second = layers(2, 10), layers(2, 20)
    place.save(first, "s3://bucket/runs/first")
    place.save(second, "s3://bucket/runs/second")
    reader = place.reader("s3://bucket/runs/first")
    assert S3StorageReader.validate_checkpoint_id("s3://bucket/runs/second")
    assert not S3StorageReader.validate_checkpoint_id("/local")
    found = load({name: torch.zeros(10) for name in first}, reader)
    assert torch.equal(found["layer001"], first["layer001"])
    found = load({name: torch.zeros(20) for name in second}, reader, checkpoint_id="s3://bucket/runs/second")
    assert torch.equal(found["layer001"], second["layer001"])
    assert str(reader.checkpoint_id) == "s3://bucket/runs/second"


def test_the_whole_state_can_be_rebuilt_from_the_metadata(place: Place) -> None:
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    saved = {"model": layers(2, 10), "epoch": 4}
    place.save(saved)
    state: dict[str, Any] = {}
    _load_state_dict(state, place.reader(), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    assert state["epoch"] == 4
    assert torch.equal(state["model"]["layer000"], saved["model"]["layer000"])  # type: ignore[index]


def test_bad_arguments_are_told_before_any_request() -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        S3StorageReader("us-east-1", "/local/path")
    with pytest.raises(ValueError, match="broadcast"):
        S3StorageReader("us-east-1", URI, broadcast="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="memory_budget"):
        S3StorageReader("us-east-1", URI, memory_budget=0)
    with pytest.raises(TypeError):
        S3StorageReader("us-east-1", URI, memory_budget="1")  # type: ignore[arg-type]


PEAK = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed.checkpoint as dcp
from s3torch.client import S3ClientConfig
from s3torch.dcp import S3StorageReader
side = 2048
config = S3ClientConfig(force_path_style=True, unsigned=True)
def reader():
    return S3StorageReader("us-east-1", "s3://checkpoints/runs/1", config, endpoint=sys.argv[1])
def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
dcp.load({"small": torch.zeros(4)}, storage_reader=reader())
peaks = {}
for kind in ("direct", "turned", "other type"):
    made = torch.ones(16, side, side, dtype=torch.float64 if kind == "other type" else torch.float32)
    state = {f"layer{n}": made[n].t() if kind == "turned" else made[n] for n in range(16)}
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    dcp.load(state, storage_reader=reader())
    peaks[kind] = status("VmHWM") - before
    assert all(bool((made[n] == n).all()) for n in range(16))
    del made, state
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_beside_the_state_is_bounded(origin: Any) -> None:
    origin.create_bucket("checkpoints")
    state = {f"layer{n}": torch.full((2048, 2048), float(n)) for n in range(16)}
    save_stock({**state, "small": torch.zeros(4)}, origin.root / "checkpoints" / "runs" / "1")
    run = [sys.executable, "-c", PEAK, origin.endpoint]
    done = subprocess.run(run, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert peaks["direct"] <= 32 * MIB
    assert max(peaks.values()) <= 128 * MIB


def test_small_tensors_from_far_away_are_quick(origin: Any) -> None:
    origin.create_bucket("far")
    saved = layers(300, 2500)
    save_stock(saved, origin.root / "far" / "run")
    config = S3ClientConfig(force_path_style=True, unsigned=True)
    reader = S3StorageReader("us-east-1", "s3://far/run", config, endpoint=origin.latency_endpoint)
    before = time.monotonic()
    found = load({name: torch.zeros(2500) for name in saved}, reader)
    assert time.monotonic() - before < 9  # one after the other, 300 round trips of 30 ms take as much at least
    assert all(torch.equal(found[name], saved[name]) for name in saved)
