"""Safetensors files in S3, beside the safetensors package."""

from __future__ import annotations

import json
import math
import pickle
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3torch.client import GetRequest, GetResult, ObjectChangedError, PutOptions, S3ClientConfig, S3NotFoundError
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import EngineContext, Into
from s3torch.client.transfers import DoneTransfer
from s3torch.dcp._tensor_memory import byte_view
from s3torch.dcp.safetensors import (
    S3Safetensors,
    SafetensorsError,
    UnknownTensorError,
    load_safetensors,
    open_safetensors,
    save_safetensors,
)

URI = "s3://bucket/model/model.safetensors"
FOLDER = "s3://bucket/model"
MIB = 1024 * 1024
NAMES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
)
TYPES = [getattr(torch, name) for name in NAMES.split()]


class RecordingEngine(MemoryEngine):
    """Notes what is fetched."""

    gets: list[GetRequest]

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        self.gets.append(request)
        return super().start_get(request, into)


class Place:
    """A store in memory, and calls that use it."""

    def __init__(self) -> None:
        self.endpoint = f"memory://{uuid.uuid4()}"
        self.store = MemoryStore.named(self.endpoint)
        self.store.create_bucket("bucket")
        self.gets: list[GetRequest] = []
        self.config = S3ClientConfig(engine=self._make_engine, part_size=5 * MIB)

    def _make_engine(self, context: EngineContext) -> RecordingEngine:
        engine = RecordingEngine(context, self.store)
        engine.gets = self.gets
        return engine

    def save(self, tensors: Any, uri: Any = URI, **options: Any) -> None:
        save_safetensors(tensors, uri, s3client_config=self.config, **options)

    def load(self, uri: Any = URI, **options: Any) -> dict[str, torch.Tensor]:
        return load_safetensors(uri, s3client_config=self.config, **options)

    def open(self, uri: Any = URI, **options: Any) -> S3Safetensors:
        return open_safetensors(uri, s3client_config=self.config, **options)

    def put(self, key: str, data: bytes) -> None:
        self.store.write("bucket", key, data, PutOptions())

    def delete(self, key: str) -> None:
        MemoryEngine(EngineContext(None, None, "test", self.config), self.store).delete("bucket", key)

    def data(self, key: str = "model/model.safetensors") -> bytes:
        return bytes(self.store.find("bucket", key).data)

    def names(self) -> list[str]:
        return sorted(self.store.objects("bucket"))

    @property
    def fetched(self) -> int:
        """Bytes asked for within the objects' sizes."""
        total = 0
        for request in self.gets:
            size = len(self.data(request.key))
            total += min(size, request.end or size) - (request.start or 0)
        return total


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.store.clear()


def filled(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Make a tensor of random bytes, valid for its type."""
    size = math.prod(shape) * dtype.itemsize
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 2 if dtype is torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    return data.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Tell whether two tensors have the same type, shape and bytes."""
    return (left.dtype, left.shape) == (right.dtype, right.shape) and bytes(byte_view(left.contiguous())) == bytes(
        byte_view(right.contiguous())
    )


def all_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return set(left) == set(right) and all(same(left[name], right[name]) for name in right)


def layers(count: int = 5, rows: int = 300) -> dict[str, torch.Tensor]:
    return {f"layer.{number}": filled(torch.float32, (rows, 256), number) for number in range(count)}


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
contents = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(TYPES), shapes),
    max_size=6,
)
notes = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@given(contents, notes, st.one_of(st.none(), st.integers(1, 400)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_round_trips(
    place: Place,
    content: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    metadata: dict[str, str],
    shard: int | None,
) -> None:
    tensors = {name: filled(dtype, shape) for name, (dtype, shape) in content.items()}
    place.save(tensors, metadata=metadata, max_shard_size=shard)
    assert all_same(place.load(), tensors)
    files = [data.data for key, data in place.store.objects("bucket").items() if key.endswith(".safetensors")]
    if shard is None:
        assert all_same(safetensors.torch.load(place.data()), tensors)
        with place.open() as model:
            assert model.metadata() == {"format": "pt"} | metadata
    else:
        found: dict[str, torch.Tensor] = {}
        index = place.store.objects("bucket").get("model/model.safetensors.index.json")
        if index is None:
            assert len([name for name in place.names() if name.endswith("/model.safetensors")]) == 1
        else:
            for key in set(json.loads(index.data)["weight_map"].values()):
                found |= safetensors.torch.load(place.data(f"model/{key}"))
            assert all_same(found, tensors)
    assert files


@given(contents, notes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_files_of_the_package_are_read(
    place: Place, content: dict[str, tuple[torch.dtype, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    tensors = {name: filled(dtype, shape) for name, (dtype, shape) in content.items()}
    place.put("model/model.safetensors", safetensors.torch.save(tensors, metadata or None))
    assert all_same(place.load(), tensors)
    with place.open() as model:
        assert model.metadata() == metadata
        assert set(model.keys()) == set(tensors) == set(model)
        assert all(same(model.get_tensor(name), tensors[name]) for name in tensors)
        assert all(model.get_slice(name).get_shape() == list(tensors[name].shape) for name in tensors)


def test_types_that_the_package_cannot_read(place: Place) -> None:
    tensors = {}
    for name in ("float8_e8m0fnu", "float4_e2m1fn_x2"):
        if hasattr(torch, name):
            tensors[name] = filled(torch.uint8, (6, 8)).view(getattr(torch, name))
    place.save(tensors)
    assert all_same(place.load(), tensors)
    with place.open() as model:
        for name, tensor in tensors.items():
            assert same(model.get_slice(name)[2:5], tensor[2:5])
            assert same(model.get_slice(name)[:, 1:3], tensor.view(torch.uint8)[:, 1:3].contiguous().view(tensor.dtype))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(12.0).reshape(3, 4).t(),
        lambda: torch.arange(12.0).reshape(3, 4)[:, 1:3],
        lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        lambda: torch.randn(5, dtype=torch.complex64).conj(),
        lambda: torch.randn(5, dtype=torch.complex64).conj().imag,
        lambda: torch.zeros(1).expand(1000),
        lambda: torch.arange(10)[3:7],
        lambda: torch.nn.Parameter(torch.randn(3)),
        lambda: torch.randn(3, requires_grad=True) * 2,
    ],
    ids=["transposed", "columns", "channels last", "conjugate", "negative", "expanded", "part", "parameter", "graph"],
)
def test_any_layout_is_saved(place: Place, make: Callable[[], torch.Tensor]) -> None:
    tensor = make()
    place.save({"a": tensor})
    assert torch.equal(place.load()["a"], tensor.detach())
    assert torch.equal(safetensors.torch.load(place.data())["a"], tensor.detach())
    assert len(place.data()) < 300 + tensor.numel() * tensor.itemsize


def test_large_tensors_are_saved_in_parts_and_loaded(place: Place) -> None:
    tensors = {"a": filled(torch.float32, (3 * MIB,)), "b": filled(torch.uint8, (7,)), "c": filled(torch.int64, (MIB,))}
    place.save(tensors)
    assert all_same(place.load(), tensors)
    assert not place.store.uploads("bucket")
    assert place.fetched == len(place.data())
    assert len({request.etag for request in place.gets[1:]}) == 1
    assert None not in {request.etag for request in place.gets[1:]}


@pytest.mark.parametrize(
    ("tensors", "kind", "complaint"),
    [
        ({"a": 3}, TypeError, "'a' must be a tensor, got int"),
        ([("a", torch.zeros(1))], TypeError, "map names to tensors"),
        ({3: torch.zeros(1)}, TypeError, "name"),
        ({"a": torch.eye(3).to_sparse()}, ValueError, "sparse"),
        ({"a": torch.zeros(3, device="meta")}, ValueError, "meta"),
        ({"a": torch.zeros(3, dtype=torch.complex128)}, ValueError, "complex128"),
        ({"__metadata__": torch.zeros(3)}, ValueError, "__metadata__"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_any_request(
    place: Place, tensors: Any, kind: type[Exception], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        place.save(tensors)
    assert not place.names()
    assert not place.store.uploads("bucket")


def test_tensors_that_share_memory_are_refused(place: Place) -> None:
    whole = torch.arange(20.0)
    with pytest.raises(ValueError, match=r"share memory: \[\['head', 'embedding'\]\]"):
        place.save({"head": whole, "embedding": whole, "other": torch.zeros(3)})
    with pytest.raises(ValueError, match="share memory"):
        place.save({"a": whole[:11], "b": whole[10:]})
    with pytest.raises(ValueError, match="share memory"):
        place.save({"a": whole, "b": whole[3:5], "c": whole[7:9]})
    place.save({"a": whole[:10], "b": whole[10:], "c": torch.zeros(0), "d": torch.zeros(0)})
    assert torch.equal(place.load()["b"], whole[10:])


@pytest.mark.parametrize("uri", ["", "/srv/model.safetensors", "s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_names_that_are_no_objects_are_refused(place: Place, uri: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        place.save({}, uri)
    if not uri.startswith("s3"):
        with pytest.raises(ValueError, match="s3://bucket"):
            place.load(uri)


def test_mangled_paths_are_recognised(place: Place) -> None:
    place.save({"a": torch.ones(2)}, PurePosixPath(URI))
    assert torch.equal(place.load(PurePosixPath(URI))["a"], torch.ones(2))
    assert place.names() == ["model/model.safetensors"]


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "5GB"])
def test_bad_shard_sizes_are_refused(place: Place, size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_shard_size"):
        place.save({}, max_shard_size=size)


# ------------------------------------------------------------------------------------------------------------- shards


def test_shards_are_named_and_indexed_as_transformers_expects(place: Place) -> None:
    tensors = layers(5)
    place.save(tensors, max_shard_size=700_000)
    assert place.names() == [
        "model/model-00001-of-00003.safetensors",
        "model/model-00002-of-00003.safetensors",
        "model/model-00003-of-00003.safetensors",
        "model/model.safetensors.index.json",
    ]
    index = json.loads(place.data("model/model.safetensors.index.json"))
    assert index["metadata"] == {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
    assert index["weight_map"]["layer.2"] == "model-00002-of-00003.safetensors"
    for uri in (URI, FOLDER, FOLDER + "/", URI + ".index.json"):
        assert all_same(place.load(uri), tensors)
    with place.open(FOLDER) as model:
        assert model.metadata() == {"format": "pt"}


def test_only_the_files_that_hold_the_names_are_touched(place: Place) -> None:
    place.save(layers(5), max_shard_size=700_000)
    place.gets.clear()
    assert list(place.load(URI + ".index.json", names=["layer.4"])) == ["layer.4"]
    assert [request.key.rpartition("/")[2] for request in place.gets] == [
        "model.safetensors.index.json",
        "model-00003-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]


def test_a_model_of_one_file_and_one_of_many_replace_each_other(place: Place) -> None:
    place.save(layers(2))
    place.save(layers(5), max_shard_size=700_000)
    assert all_same(place.load(), layers(5))
    assert all_same(place.load(FOLDER), layers(5))
    place.save(layers(1), max_shard_size=700_000)
    assert all_same(place.load(), layers(1))


def test_a_folder_with_several_models_is_an_error_that_names_them(place: Place) -> None:
    place.save(layers(5), max_shard_size=700_000)
    place.save(layers(2))
    with pytest.raises(SafetensorsError, match=r"one file, model\.safetensors, and one in several"):
        place.load(FOLDER)
    place.save(layers(5), "s3://bucket/model/other.safetensors", max_shard_size=700_000)
    with pytest.raises(SafetensorsError, match=r"model\.safetensors\.index\.json, other\.safetensors\.index\.json"):
        place.load(FOLDER)
    assert all_same(place.load("s3://bucket/model/other.safetensors"), layers(5))


def test_a_folder_without_an_index_is_all_of_its_files(place: Place) -> None:
    tensors = layers(2)
    place.put("model/a.safetensors", safetensors.torch.save({"layer.0": tensors["layer.0"]}))
    place.put("model/b.safetensors", safetensors.torch.save({"layer.1": tensors["layer.1"]}))
    place.put("model/deeper/c.safetensors", b"")
    place.put("model/config.json", b"{}")
    assert all_same(place.load(FOLDER), tensors)
    place.put("model/c.safetensors", safetensors.torch.save({"layer.1": tensors["layer.0"]}))
    with pytest.raises(SafetensorsError, match=r"'layer.1' is in .*b\.safetensors and in .*c\.safetensors"):
        place.load(FOLDER)


def test_files_of_two_saves_are_never_mixed(place: Place) -> None:
    place.save(layers(5), max_shard_size=700_000)
    first = place.data("model/model-00002-of-00003.safetensors")
    place.save(layers(5), max_shard_size=700_000)
    place.put("model/model-00002-of-00003.safetensors", first)
    with pytest.raises(SafetensorsError, match="not of one save"):
        place.load()


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (b"<html>", "cannot be read"),
        (b"[]", "no weight_map"),
        (b'{"weight_map": {"a": 3}}', "no weight_map"),
        (b'{"weight_map": {"a": ""}}', "no weight_map"),
        (
            b'{"weight_map": {"missing": "one.safetensors"}}',
            "'missing' is in s3://bucket/model/one.safetensors, and it is not",
        ),
    ],
)
def test_a_broken_index_is_one_clear_error(place: Place, index: bytes, complaint: str) -> None:
    place.put("model/one.safetensors", safetensors.torch.save({"a": torch.zeros(1)}))
    place.put("model/model.safetensors.index.json", index)
    with pytest.raises(SafetensorsError, match=complaint):
        place.load(FOLDER)


def test_a_missing_shard_is_named(place: Place) -> None:
    place.save(layers(5), max_shard_size=700_000)
    place.delete("model/model-00002-of-00003.safetensors")
    for uri in (FOLDER, URI):
        with pytest.raises(S3NotFoundError, match=r"model-00002-of-00003\.safetensors.*the index of"):
            place.load(uri)


# ------------------------------------------------------------------------------------------------------------- errors


def test_missing_models_are_not_found(place: Place) -> None:
    for uri in (URI, FOLDER, URI + ".index.json", "s3://no-such-bucket/model.safetensors", "s3://no-such-bucket/model"):
        with pytest.raises(FileNotFoundError, match="no-such-bucket" if "no-such" in uri else "s3://bucket/model"):
            place.load(uri)


def test_what_is_no_safetensors_file_is_an_error_that_names_it(place: Place) -> None:
    good = safetensors.torch.save(layers(1))
    for data in (b"", b"\0" * 7, b"PK\3\4" * 100, good[:100_000], good + b"\0", good[:9]):
        place.put("model/model.safetensors", data)
        for uri in (URI, FOLDER):
            with pytest.raises(SafetensorsError, match=r"s3://bucket/model/model\.safetensors: (not|trunc|corr)"):
                place.load(uri)


def test_unknown_names_are_errors_with_what_is_near(place: Place) -> None:
    place.save(layers(5), max_shard_size=700_000)
    for uri in (FOLDER, URI):
        with pytest.raises(UnknownTensorError, match=r"has no tensor 'layer\.7'\. Did you mean 'layer\.\d'") as caught:
            place.load(uri, names=["layer.7"])
        assert isinstance(caught.value, KeyError)
    with place.open() as model:
        with pytest.raises(KeyError, match=r"keys\(\)"):
            model.get_tensor("xyz")
        with pytest.raises(KeyError):
            model.get_slice("layer")
    with pytest.raises(TypeError, match="several names"):
        place.load(names="layer.1")


def test_a_file_that_is_replaced_meanwhile_is_an_error(place: Place) -> None:
    place.save(layers(5))
    with place.open() as model:
        place.save(layers(5, rows=301))
        with pytest.raises(ObjectChangedError):
            model.get_tensor("layer.3")
        with pytest.raises(ObjectChangedError):
            model.get_slice("layer.3")[4:6]


def test_a_closed_model_is_closed(place: Place) -> None:
    place.save(layers(1))
    with place.open() as model:
        part = model.get_slice("layer.0")
        assert "1 tensors" in repr(model)
    assert model.closed
    with pytest.raises(ValueError, match="closed"):
        model.get_tensor("layer.0")
    with pytest.raises(ValueError, match="closed"):
        _ = part[0]


# ----------------------------------------------------------------------------------------------------------- requests


def test_a_small_model_takes_one_request(place: Place) -> None:
    place.save({f"layer.{number}": torch.randn(10) for number in range(300)})
    assert len(place.load()) == 300
    assert len(place.gets) == 1


def test_a_long_header_takes_two_requests(place: Place) -> None:
    tensors = {f"{'name' * 20}.{number}": torch.full((3,), float(number)) for number in range(2000)}
    place.save(tensors)
    assert all_same(place.load(), tensors)
    assert len(place.gets) == 3
    assert place.fetched == len(place.data())
    assert place.gets[1].etag is not None


def test_only_what_is_asked_for_is_fetched(place: Place) -> None:
    tensors = {f"layer.{number:02}": filled(torch.float32, (256, 1024), number) for number in range(64)}
    place.save(tensors)
    names = ["layer.60", "layer.07", "layer.33", "layer.12"]
    loaded = place.load(names=names)
    assert list(loaded) == names
    assert all(same(loaded[name], tensors[name]) for name in names)
    assert place.fetched <= 4 * MIB + 128 * 1024


def test_a_slice_of_rows_fetches_these_rows(place: Place) -> None:
    tensors = {"a": filled(torch.bfloat16, (4096, 512)), "b": filled(torch.int32, (77,))}
    place.save(tensors)
    with place.open() as model:
        place.gets.clear()
        rows = model.get_slice("a")[2000:2100]
        assert same(rows, tensors["a"][2000:2100])
        assert [(request.end or 0) - (request.start or 0) for request in place.gets] == [100 * 1024]
        place.gets.clear()
        assert same(model.get_slice("a")[-1, 5:9], tensors["a"][-1, 5:9])
        assert place.fetched == 8


INDICES: list[Any] = [
    0,
    -1,
    slice(None),
    slice(2, 5),
    slice(5, 2),
    slice(None, None, 3),
    slice(-100, 100),
    ...,
    (..., 0),
    (slice(1, 3), slice(None), slice(2, 4)),
    (2, ..., slice(None, None, 2)),
    (slice(None), 1),
    (slice(0, 0), 1),
    (0, 0, 0),
    (..., slice(None), slice(1, None, 4), slice(3, 1)),
    (slice(1, 6, 2), slice(0, 3, 2), slice(None)),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_are_those_of_a_tensor(place: Place, index: Any) -> None:
    tensors = {
        name: filled(getattr(torch, name), (7, 5, 6)) for name in ("float32", "bool", "complex64", "float8_e5m2")
    }
    place.save(tensors)
    with place.open() as model:
        for name, tensor in tensors.items():
            got = model.get_slice(name)[index]
            expected = tensor.view(torch.uint8 if tensor.itemsize == 1 else tensor.dtype)[index].contiguous()
            assert same(
                got, expected.view(tensor.dtype) if expected.dim() else expected.reshape(1).view(tensor.dtype)[0]
            )


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_slice_is_that_of_a_tensor(place: Place, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 6), max_size=4).map(tuple))
    tensor = filled(torch.int16, shape)
    parts = [
        data.draw(
            st.one_of(
                st.slices(size).map(lambda part: slice(part.start, part.stop, part.step and min(abs(part.step), 9))),
                *([st.integers(-size, size - 1)] if size else []),
            )
        )
        for size in shape
    ]
    index = tuple(parts[: data.draw(st.integers(0, len(parts)))])
    place.save({"a": tensor})
    with place.open() as model:
        assert same(model.get_slice("a")[index], tensor[index])


@pytest.mark.parametrize(
    ("index", "kind"),
    [
        (7, IndexError),
        (-8, IndexError),
        ((0, 0, 0, 0), IndexError),
        ((..., ...), IndexError),
        (slice(None, None, -1), ValueError),
        (slice(None, None, 0), ValueError),
        ([0, 1], TypeError),
        (None, TypeError),
        (True, TypeError),
        ("a", TypeError),
        (torch.tensor([0, 1]), TypeError),
        (1.5, TypeError),
    ],
    ids=str,
)
def test_what_is_no_slice_is_refused(place: Place, index: Any, kind: type[Exception]) -> None:
    place.save({"a": torch.zeros(7, 5, 6)})
    with place.open() as model, pytest.raises(kind):
        model.get_slice("a")[index]


# ------------------------------------------------------------------------------------------------------------- places


def test_the_meta_device_fetches_nothing_but_the_header(place: Place) -> None:
    place.save(layers(3))
    loaded = place.load(device="meta")
    assert all(tensor.is_meta and tensor.shape == (300, 256) for tensor in loaded.values())
    assert len(place.gets) == 1


def test_the_default_device_does_not_matter(place: Place) -> None:
    place.save(layers(1))
    with torch.device("meta"):
        loaded = place.load()
    assert all_same(loaded, layers(1))


def test_an_open_model_pickles_with_the_version_it_has_seen(tmp_path: Path) -> None:
    endpoint = f"memory://{uuid.uuid4()}"
    store = MemoryStore.named(endpoint)
    store.create_bucket("bucket")
    config = S3ClientConfig(engine="memory")
    save_safetensors(layers(5), URI, endpoint=endpoint, s3client_config=config, max_shard_size=700_000)
    with open_safetensors(URI, endpoint=endpoint, s3client_config=config) as model:
        data = pickle.dumps(model)
        assert len(data) < 10_000
        with pickle.loads(data) as copy:
            assert copy.keys() == model.keys()
            assert same(copy.get_tensor("layer.2"), layers(5)["layer.2"])
            save_safetensors(layers(5), URI, endpoint=endpoint, s3client_config=config, max_shard_size=700_000)
            with pytest.raises(ObjectChangedError):
                copy.get_tensor("layer.2")
    store.clear()
