"""Safetensors models through torch.distributed.checkpoint, beside torch's own reader and writer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.loading import Chunks, Place, emptied, grid, load, numbers, same, upload
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem

from s3torch.client import ObjectChangedError, PutOptions, PutResult, ServerError
from s3torch.client.protocols import Body
from s3torch.client.transfers import DoneTransfer
from s3torch.dcp import CheckpointNotFoundError
from s3torch.dcp._safetensors_files import SAVE_ID
from s3torch.dcp.hugging_face import S3HuggingFaceStorageReader, S3HuggingFaceStorageWriter
from s3torch.dcp.safetensors import SafetensorsError, load_safetensors, save_safetensors

FOLDER = "runs/1"
URI = f"s3://bucket/{FOLDER}"
MIB = 1024 * 1024
needs_stock = pytest.mark.skipif(not hasattr(dcp, "HuggingFaceStorageReader"), reason="this torch has none of its own")


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.store.clear()


def writer(place: Place, uri: str = URI, **options: Any) -> S3HuggingFaceStorageWriter:
    return S3HuggingFaceStorageWriter(uri, "us-east-1", s3client_config=place.config, **options)


def reader(place: Place, uri: str = URI, **options: Any) -> S3HuggingFaceStorageReader:
    return S3HuggingFaceStorageReader(uri, "us-east-1", s3client_config=place.config, **options)


def save(state: dict[str, Any], storage_writer: Any, **options: Any) -> None:
    """Save without a process group, which torch warns of; raises what the rank has raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.save(state, storage_writer=storage_writer, **options)
        except dcp.api.CheckpointException as error:
            raise error.failures[0][0] from error


def save_as_ranks(states: list[dict[str, Any]], storage_writer: S3HuggingFaceStorageWriter) -> None:
    """Save as several ranks would, one after the other."""
    planners = [dcp.DefaultSavePlanner() for _ in states]
    plans = []
    for state, planner in zip(states, planners, strict=True):
        planner.set_up_planner(state, is_coordinator=True)
        plans.append(storage_writer.prepare_local_plan(planner.create_local_plan()))
    ticket = storage_writer._ticket
    plans, metadata = planners[0].create_global_plan(plans)
    results = []
    for plan, planner in zip(storage_writer.prepare_global_plan(plans), planners, strict=True):
        storage_writer._ticket = plan.storage_data.ticket
        results.append(storage_writer.write_data(planner.finish_plan(plan), planner).wait())
    assert ticket
    storage_writer.finish(metadata, results)


def model(seed: int = 0) -> dict[str, torch.Tensor]:
    random = Random(seed)
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.float64]
    tensors = {f"layer.{number}": numbers(random, (3 + number, 40), kind) for number, kind in enumerate(kinds)}
    return {**tensors, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "large": torch.randn(1500, 1000)}


def download(place: Place, folder: Path, prefix: str = FOLDER) -> Path:
    for key in place.keys(prefix):
        file = folder / key.removeprefix(f"{prefix}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(place.data(key))
    return folder


def file_names(place: Place, prefix: str = FOLDER) -> list[str]:
    return sorted(key.removeprefix(f"{prefix}/") for key in place.keys(prefix))


# ---------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("thread_count", [1, 3])
def test_a_model_is_saved_and_loaded(place: Place, tmp_path: Path, thread_count: int) -> None:
    state = model()
    mapping = {name: 1 + number % 3 for number, name in enumerate(state)}
    save(state, writer(place, fqn_to_index_mapping=mapping, thread_count=thread_count))
    assert file_names(place) == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    assert same(load(emptied(state), reader(place)), state)
    assert same(load_safetensors(URI, s3client_config=place.config), state)
    index = json.loads(place.data(f"{FOLDER}/model.safetensors.index.json"))
    assert index["weight_map"] == {name: f"model-0000{number}-of-00003.safetensors" for name, number in mapping.items()}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in state.values())
    folder = download(place, tmp_path)
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= safetensors.torch.load_file(file)
        with safetensors.safe_open(file, "pt") as opened:
            assert opened.metadata()["format"] == "pt"
    assert same(found, state)


@needs_stock
def test_torch_reads_what_is_written(place: Place, tmp_path: Path) -> None:
    state = {name: value for name, value in model().items() if name != "empty"}  # which torch's reader cannot read
    save(state, writer(place, fqn_to_index_mapping={name: 1 + len(name) % 2 for name in state}))
    stock = dcp.HuggingFaceStorageReader(str(download(place, tmp_path)))
    assert same(load(emptied(state), stock), state)


@needs_stock
def test_what_torch_writes_is_read(place: Place, tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in model().items()}
    mapping = {name: 1 + len(name) % 2 for name in state}
    save(state, dcp.HuggingFaceStorageWriter(str(tmp_path), fqn_to_index_mapping=mapping))
    upload(tmp_path, place.store)
    assert same(load(emptied(state), reader(place)), state)
    assert same(load_safetensors(URI, s3client_config=place.config), state)


def test_what_the_package_writes_is_read(place: Place) -> None:
    state = {name: value.contiguous() for name, value in model().items()}
    place.put(f"{FOLDER}/model.safetensors", safetensors.torch.save(state))
    for uri in (URI, f"{URI}/model.safetensors"):
        assert same(load(emptied(state), reader(place, uri)), state)
    save_safetensors(state, "s3://bucket/other/m.safetensors", s3client_config=place.config, max_shard_size=4000)
    assert same(load(emptied(state), reader(place, "s3://bucket/other")), state)


def test_nested_states_keep_their_names(place: Place) -> None:
    state = {"model": {"a": torch.randn(3), "list": [torch.randn(2), torch.randn(4)]}}
    save(state, writer(place))
    assert same(load(emptied(state), reader(place)), state)
    assert set(load_safetensors(URI, s3client_config=place.config)) == {"model.a", "model.list.0", "model.list.1"}


def test_targets_may_differ_in_type_and_layout(place: Place) -> None:
    value = torch.randn(300, 70)
    save({"a": value, "b": value.clone(), "c": value.clone()}, writer(place))
    loaded = load(
        {
            "a": torch.zeros(300, 70, dtype=torch.float64),
            "b": torch.zeros(70, 300).t(),
            "c": torch.zeros(300, 140)[:, ::2],
        },
        reader(place),
    )
    assert torch.equal(loaded["a"], value.double())
    assert torch.equal(loaded["b"], value)
    assert torch.equal(loaded["c"], value)


def test_only_the_tensors_asked_for_are_fetched(place: Place) -> None:
    state = {f"layer.{number:02}": torch.randn(256, 1024) for number in range(64)}
    save(state, writer(place))
    place.engine.gets.clear()
    wanted = {name: state[name] for name in ("layer.63", "layer.10", "layer.11", "layer.30")}
    assert same(load(emptied(wanted), reader(place)), wanted)
    place.engine.gets = [get for get in place.engine.gets if get.key.endswith(".safetensors")]
    assert place.engine.fetched <= 4 * MIB + 129 * 1024


def test_a_slice_of_rows_fetches_these_rows(place: Place) -> None:
    whole = torch.randn(4096, 256)
    save({"a": whole, "z": torch.zeros(9)}, writer(place))
    place.engine.gets.clear()
    part = Chunks((4096, 256), [((2000, 0), torch.zeros(1000, 256))])
    load({"a": part}, reader(place))
    assert torch.equal(part.chunks[0][1], whole[2000:3000])
    assert [(get.end or 0) - (get.start or 0) for get in place.engine.gets if (get.start or 0)] == [1000 * 1024]


@pytest.mark.parametrize("seed", range(40))
def test_any_parts_are_loaded_into_any_parts(place: Place, seed: int) -> None:
    random = Random(seed)
    shape = tuple(random.randint(1, 12) for _ in range(random.randint(1, 3)))
    dtype = random.choice([torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
    whole = numbers(random, shape, dtype)
    world = random.randint(1, 4)
    ranks: list[list[tuple[tuple[int, ...], torch.Tensor]]] = [[] for _ in range(world)]
    for at, lengths in grid(random, shape):
        box = tuple(slice(first, first + length) for first, length in zip(at, lengths, strict=True))
        random.choice(ranks).append((at, whole[box]))
    other = numbers(random, (5, 3), torch.float32)
    states: list[dict[str, Any]] = [{"a": Chunks(shape, chunks)} if chunks else {} for chunks in ranks]
    states[0]["other"] = other
    consolidate = random.random() < 0.5
    save_as_ranks(states, writer(place, save_distributed=True, enable_consolidation=consolidate))
    targets = [(at, torch.zeros(lengths, dtype=dtype)) for at, lengths in grid(random, shape)]
    folder = random.choice([URI, f"{URI}/sharded"]) if consolidate else URI
    loaded = load({"a": Chunks(shape, targets), "other": torch.zeros(5, 3)}, reader(place, folder))
    assert same(loaded["other"], other)
    for at, target in targets:
        box = tuple(slice(first, first + length) for first, length in zip(at, target.shape, strict=True))
        assert same(target, whole[box])
    if consolidate:
        assert same(load_safetensors(URI, s3client_config=place.config), {"a": whole, "other": other})


@needs_stock
def test_torch_reads_and_consolidates_the_parts(place: Place, tmp_path: Path) -> None:
    whole = torch.randn(100, 7)
    states: list[dict[str, Any]] = [
        {"a": Chunks((100, 7), [((0, 0), whole[:60])]), "b": torch.ones(3)},
        {"a": Chunks((100, 7), [((60, 0), whole[60:])])},
    ]
    save_as_ranks(states, writer(place, save_distributed=True))
    assert file_names(place) == [f"shard-0000{rank}-model-00001-of-00001.safetensors" for rank in (1, 2)]
    stock = dcp.HuggingFaceStorageReader(str(download(place, tmp_path)))
    loaded = load({"a": torch.zeros(100, 7), "b": torch.zeros(3)}, stock)
    assert same(loaded, {"a": whole, "b": torch.ones(3)})


def test_ranks_that_save_whole_tensors_have_files_of_their_own(place: Place) -> None:
    states = [{"a": torch.randn(50)}, {"b": torch.randn(7)}, {}]
    save_as_ranks(states, writer(place))
    assert file_names(place) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert same(load_safetensors(URI, s3client_config=place.config), states[0] | states[1])
    with pytest.raises(ValueError, match="several ranks into file 1"):
        save_as_ranks(states, writer(place, fqn_to_index_mapping={"a": 1, "b": 1}))


# --------------------------------------------------------------------------------------------------------- replacements


def test_a_save_replaces_what_was_there(place: Place) -> None:
    place.put(f"{FOLDER}/config.json", b"{}")
    first, second = model(1), {"layer.0": torch.ones(3)}
    whole = torch.randn(30, 7)
    parts: list[dict[str, Any]] = [{"a": Chunks((30, 7), [((at, 0), whole[at : at + 10])])} for at in (0, 10, 20)]
    save(first, writer(place, fqn_to_index_mapping={name: 1 + len(name) % 3 for name in first}))
    save(second, writer(place))
    assert same(load_safetensors(URI, s3client_config=place.config), second)
    save_as_ranks(parts, writer(place, save_distributed=True))
    assert same(load({"a": torch.zeros(30, 7)}, reader(place)), {"a": whole})
    save_as_ranks([{"a": whole}], writer(place, save_distributed=True))
    assert same(load({"a": torch.zeros(30, 7)}, reader(place)), {"a": whole})
    save(second, writer(place))
    assert file_names(place) == ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]
    assert same(load(emptied(second), reader(place)), second)


def test_parts_of_two_saves_are_never_mixed(place: Place) -> None:
    whole = torch.zeros(20, 7)
    parts: list[dict[str, Any]] = [{"a": Chunks((20, 7), [((at, 0), whole[at : at + 10])])} for at in (0, 10)]
    save_as_ranks(parts, writer(place, save_distributed=True))
    name = f"{FOLDER}/shard-00001-model-00001-of-00001.safetensors"
    old = place.data(name)
    save_as_ranks(parts, writer(place, save_distributed=True))
    assert len(set(json_notes(place.data(name), SAVE_ID)) | set(json_notes(old, SAVE_ID))) == 2
    place.put(name, old)
    with pytest.raises(SafetensorsError, match="not of one save"):
        reader(place).read_metadata()
    # What torch makes of it: the one since it plans on one rank, the other before.
    with pytest.raises((AssertionError, SafetensorsError), match="not of one save"):
        load({"a": torch.zeros(20, 7)}, reader(place))


def json_notes(file: bytes, name: str) -> list[str]:
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    return [header["__metadata__"][name]]


def test_a_missing_part_is_an_error(place: Place) -> None:
    whole = torch.zeros(30, 7)
    parts: list[dict[str, Any]] = [{"a": Chunks((30, 7), [((at, 0), whole[at : at + 10])])} for at in (0, 10, 20)]
    save_as_ranks(parts, writer(place, save_distributed=True))
    place.engine.delete("bucket", f"{FOLDER}/shard-00003-model-00001-of-00001.safetensors")
    with pytest.raises(SafetensorsError, match="2 of the 3 files"):
        reader(place).read_metadata()


@pytest.mark.parametrize(
    ("offsets", "complaint"),
    [
        ([[0, 0], [9, 0]], "do not make up"),
        ([[0, 0], [11, 0]], "do not make up"),
        ([[0, 0], [10]], "said to begin"),
        ([[0, 0], [-10, 0]], "DCP_SHARDING_INFO"),
        ([[0, 0], "x"], "DCP_SHARDING_INFO"),
    ],
)
def test_parts_that_do_not_fit_are_an_error(place: Place, offsets: list[Any], complaint: str) -> None:
    for number, offset in enumerate(offsets):
        notes = {"DCP_SHARDING_INFO": json.dumps({"a": {"saved_offsets": offset}})}
        place.put(f"{FOLDER}/{number}.safetensors", safetensors.torch.save({"a": torch.zeros(10, 7)}, notes))
    with pytest.raises(SafetensorsError, match=complaint):
        reader(place).read_metadata()


# --------------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_saved_is_refused_before_anything_is_written(place: Place) -> None:
    part = Chunks((20, 7), [((0, 0), torch.zeros(10, 7))])
    with pytest.raises(ValueError, match=r"'epoch' is no tensor"):
        save({"a": torch.zeros(1), "epoch": 3}, writer(place))
    with pytest.raises(ValueError, match=r"does not say in which file 'b'"):
        save({"a": torch.zeros(1), "b": torch.zeros(2)}, writer(place, fqn_to_index_mapping={"a": 1}))
    with pytest.raises(ValueError, match=r"'a' is spread over ranks.*save_distributed=True"):
        save({"a": part}, writer(place))
    with pytest.raises(ValueError, match="complex128"):
        save({"a": torch.zeros(1, dtype=torch.complex128)}, writer(place))
    with pytest.raises(ValueError, match="collectives"):
        writer(place).set_up_storage_writer(True, rank=0, use_collectives=False)
    assert not place.keys("")


@pytest.mark.parametrize(
    "options",
    [
        {"thread_count": 0},
        {"thread_count": "1"},
        {"enable_consolidation": True},
        {"fqn_to_index_mapping": {"a": 0}},
        {"fqn_to_index_mapping": {"a": "1"}},
    ],
)
def test_bad_arguments_are_refused(place: Place, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        writer(place, **options)


def test_local_paths_are_refused(place: Place) -> None:
    for make in (reader, writer):
        with pytest.raises(ValueError, match="s3://bucket/prefix"):
            make(place, "/srv/model")
        assert make(place).validate_checkpoint_id("s3://bucket/model")
        assert not make(place).validate_checkpoint_id("/srv/model")


def test_a_plan_of_another_save_is_refused(place: Place) -> None:
    own = writer(place)
    planner = dcp.DefaultSavePlanner()
    planner.set_up_planner({"a": torch.zeros(1)}, is_coordinator=True)
    plan = own.prepare_local_plan(planner.create_local_plan())
    plans, _ = planner.create_global_plan([plan])
    (plan,) = own.prepare_global_plan(plans)
    own.write_data(plan, planner)
    with pytest.raises(ValueError, match="another save"):
        own.write_data(plan, planner)


def test_a_model_that_is_not_there_is_not_found(place: Place) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no safetensors model in s3://bucket/runs/1"):
        reader(place).read_metadata()


def test_a_missing_tensor_or_another_shape_is_an_error(place: Place) -> None:
    save({"a": torch.zeros(3)}, writer(place))
    with pytest.raises(RuntimeError, match="b"):
        load({"b": torch.zeros(3)}, reader(place))
    with pytest.raises(ValueError, match="a"):
        load({"a": torch.zeros(4)}, reader(place))


def test_nothing_is_committed_after_an_error(place: Place) -> None:
    state = {"a": torch.randn(1000, 1000), "b": torch.randn(1000, 1000)}
    save(state, writer(place))
    committed: list[str] = []

    class Planner(dcp.DefaultLoadPlanner):
        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            committed.append(read_item.dest_index.fqn)

    place.engine.failing_get = len(place.engine.gets) + 3
    with pytest.raises(ServerError):
        load(emptied(state), reader(place), planner=Planner())
    assert not committed


def test_a_model_that_is_replaced_meanwhile_is_an_error(place: Place) -> None:
    save({"a": torch.zeros(1000, 100)}, writer(place))
    source = reader(place)
    metadata = source.read_metadata()
    source.set_up_storage_reader(metadata, True)
    save({"a": torch.ones(1000, 100)}, writer(place))
    planner = dcp.DefaultLoadPlanner()
    planner.set_up_planner({"a": torch.zeros(1000, 100)}, metadata, True)
    plan: LoadPlan = planner.finish_plan(source.prepare_local_plan(planner.create_local_plan()))
    with pytest.raises(ObjectChangedError):
        source.read_data(plan, planner)


def test_another_folder_for_each_save_and_load(place: Place) -> None:
    own_writer, own_reader = writer(place), reader(place)
    for number in (1, 2):
        save({"a": torch.full((3,), float(number))}, own_writer, checkpoint_id=f"s3:/bucket/step/{number}")
    for number in (1, 2):
        loaded = load({"a": torch.zeros(3)}, own_reader, checkpoint_id=f"s3://bucket/step/{number}")
        assert loaded["a"].tolist() == [number] * 3
    assert own_reader.path == own_reader.checkpoint_id == "s3://bucket/step/2"
    assert "s3://bucket/step/2" in repr(own_writer)


def test_an_interrupted_save_leaves_nothing_to_load(place: Place) -> None:
    start = place.engine.start_put

    def fail(bucket: str, key: str, body: Body, options: PutOptions) -> DoneTransfer[PutResult]:
        if key.endswith("00002-of-00002.safetensors"):
            return DoneTransfer(error=ServerError("the store failed", operation="PutObject"))
        return start(bucket, key, body, options)

    place.engine.start_put = fail  # type: ignore[method-assign]  # a store that fails
    with pytest.raises(ServerError):
        save({"a": torch.zeros(3), "b": torch.zeros(4)}, writer(place, fqn_to_index_mapping={"a": 1, "b": 2}))
    assert not place.keys("")
