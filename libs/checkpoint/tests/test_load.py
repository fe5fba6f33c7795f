"""`S3Checkpoint.load` gives what `torch.load` gives from a file."""

from __future__ import annotations

import collections
import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import ObjectChangedError, PutOptions, S3NotFoundError, ServerError
from s3torch.client.memory import MemoryStore

URI = "s3://bucket/folder/model.pt"
KEY = "folder/model.pt"


class Own:
    """A class of the user's own, which looks at its tensor when it is unpickled."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.total = float(tensor.sum())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.tensor = state["tensor"]
        self.total = float(self.tensor.sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and torch.equal(self.tensor, other.tensor) and self.total == other.total

    def __hash__(self) -> int:
        return id(self)


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        if (left.dtype, left.shape, left.layout, left.device) != (right.dtype, right.shape, right.layout, right.device):
            return False
        if left.requires_grad != right.requires_grad or left.is_conj() != right.is_conj():
            return False
        if left.device.type == "meta":
            return True
        if left.layout == torch.strided and left.stride() != right.stride():
            return False
        return (
            torch.equal(left, right) if left.layout == torch.strided else torch.equal(left.to_dense(), right.to_dense())
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left).__module__.startswith("numpy"):
        return bool((left == right).all())
    return bool(left == right)


def tied() -> dict[str, torch.Tensor]:
    whole = torch.arange(10_000.0).reshape(100, 100)
    return {"whole": whole, "row": whole[3], "turned": whole.T, "again": whole, "spread": whole[::7, ::3]}


def trained() -> dict[str, Any]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.BatchNorm1d(400), torch.nn.Linear(400, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 300)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "rng": torch.get_rng_state()}


PLAIN: dict[str, Callable[[], Any]] = {
    "tensor": lambda: torch.randn(1000, 77),
    "large": lambda: {"a": torch.randn(1_500_000), "b": torch.randn(3), "c": torch.randn(700_000)},
    "many": lambda: {f"layer{number}": torch.randn(number + 1, 40) for number in range(200)},
    "tied": tied,
    "trained": trained,
    "empty": lambda: [torch.zeros(0), torch.zeros(3, 0, 2, dtype=torch.int64), torch.randn(5), torch.zeros(0)],
    "only empty": lambda: torch.zeros(0),
    "types": lambda: (
        [
            torch.randn(33).to(kind)
            for kind in (
                torch.bfloat16,
                torch.float16,
                torch.float64,
                torch.int8,
                torch.uint8,
                torch.bool,
                torch.complex64,
            )
        ]
        + [torch.zeros(4, dtype=torch.float8_e4m3fn).view(torch.uint8), torch.tensor([1, 2], dtype=torch.uint16)]
    ),
    "scalars": lambda: [torch.tensor(1.5), torch.tensor(True), torch.tensor(7)],
    "conjugate": lambda: torch.randn(50, dtype=torch.complex64).conj(),
    "negative": lambda: torch.randn(50, dtype=torch.complex64).conj().imag,
    "parameters": lambda: collections.OrderedDict(
        a=torch.nn.Parameter(torch.randn(9)), b=torch.nn.Parameter(torch.randn(2, 2), requires_grad=False)
    ),
    "with gradient": lambda: torch.randn(5, requires_grad=True),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "no tensor": lambda: {"epoch": 3, "name": "grüße", "nested": [1, (2.5, None, True)], "size": torch.Size([1, 2])},
    "meta": lambda: torch.empty(3, 4, device="meta"),
    "set": lambda: {"layers": {1, 2, 3}, "device": torch.device("cpu"), "type": torch.float32},
}

SPECIAL: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(30).to_sparse(),
    "sparse rows": lambda: torch.eye(30).to_sparse_csr(),
    "own class": lambda: {"own": Own(torch.arange(100_000.0)), "more": torch.randn(1000)},
    "module": lambda: torch.nn.Linear(30, 40).state_dict() | {"counter": collections.Counter("abca")},
}


def total(storage: Any) -> int:
    return sum(storage.tolist())


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def put(store: MemoryStore, data: bytes) -> None:
    store.write("bucket", KEY, data, PutOptions())


def check(checkpoint: S3Checkpoint, store: MemoryStore, data: bytes, **options: Any) -> Any:
    put(store, data)
    loaded = checkpoint.load(URI, **options)
    assert same(loaded, torch.load(io.BytesIO(data), **options))
    return loaded


@pytest.mark.parametrize("name", PLAIN)
def test_plain_objects(checkpoint: S3Checkpoint, store: MemoryStore, name: str) -> None:
    check(checkpoint, store, saved(PLAIN[name]()))


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:Validating sparse:UserWarning")
@pytest.mark.parametrize("name", [*PLAIN, *SPECIAL])
@pytest.mark.parametrize("format", ["zip", "legacy", "protocol 4", "wide alignment"])
def test_any_object_in_any_format(checkpoint: S3Checkpoint, store: MemoryStore, name: str, format: str) -> None:  # noqa: A002  # the word
    if format == "legacy" and name in ("own class", "types"):
        pytest.skip("torch itself makes objects of this format before their bytes are there, and knows no uint16 in it")
    value = {**PLAIN, **SPECIAL}[name]()
    if format == "wide alignment":
        config = pytest.importorskip("torch.utils.serialization").config
        if not hasattr(config.save, "storage_alignment"):
            pytest.skip("this torch has one alignment")
        with config.patch({"save.storage_alignment": 4096}):
            data = saved(value)
    else:
        data = saved(
            value,
            _use_new_zipfile_serialization=format != "legacy",
            pickle_protocol=4 if format == "protocol 4" else pickle.DEFAULT_PROTOCOL if format == "legacy" else 2,
        )
    check(checkpoint, store, data, weights_only=False)


def test_what_shares_memory_shares_it_again(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    loaded = check(checkpoint, store, saved(tied()))
    assert len({tensor.untyped_storage().data_ptr() for tensor in loaded.values()}) == 1
    loaded["whole"].zero_()
    assert loaded["row"].sum() == 0


@pytest.mark.parametrize(
    "map_location",
    ["cpu", torch.device("cpu"), "meta", {"cpu": "cpu"}, {"cuda:0": "cpu"}, lambda storage, location: storage],
    ids=["name", "device", "meta", "mapping", "other device", "function"],
)
def test_map_locations(checkpoint: S3Checkpoint, store: MemoryStore, map_location: Any) -> None:
    for value in (PLAIN["many"](), tied(), PLAIN["large"]()):
        check(checkpoint, store, saved(value), map_location=map_location)


def test_a_map_location_that_looks_at_the_bytes_sees_them(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    sums = []

    def look(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        sums.append(total(storage))
        return storage

    put(store, saved([torch.full((1000,), 3, dtype=torch.uint8), torch.full((9,), 2, dtype=torch.uint8)]))
    checkpoint.load(URI, map_location=look)
    assert sums == [3000, 18]


def rewritten(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Have torch write an archive anew, with other contents."""
    source = zipfile.ZipFile(io.BytesIO(data))
    file = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(file)
    for name in source.namelist():
        short = name.partition("/")[2]
        if short not in ("version", ".data/serialization_id", ".format_version", ".storage_alignment"):
            content = change(short, source.read(name))
            writer.write_record(short, content, len(content))
    writer.write_end_of_file()
    return file.getvalue()


def test_storages_of_another_device_are_filled_before_they_move(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    def retag(name: str, content: bytes) -> bytes:
        return content.replace(b"X\x03\x00\x00\x00cpu", b"X\x04\x00\x00\x00moon") if name == "data.pkl" else content

    sums = []

    def restore(storage: Any, location: str) -> Any:
        if location == "moon":
            sums.append(total(storage))
            return storage
        return None

    put(store, rewritten(saved(torch.full((100,), 2, dtype=torch.uint8)), retag))
    torch.serialization.register_package(0, lambda storage: None, restore)
    try:
        loaded = checkpoint.load(URI)
    finally:
        torch.serialization._package_registry.pop(0)
    assert sums == [200]
    assert loaded.sum() == 200
    assert checkpoint.load(URI, map_location="cpu").sum() == 200


def test_another_byte_order_is_swapped(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    other = b"big" if sys.byteorder == "little" else b"little"
    data = saved({"a": torch.arange(1000, dtype=torch.int32)})
    loaded = check(checkpoint, store, rewritten(data, lambda name, content: other if name == "byteorder" else content))
    assert loaded["a"][1] == 1 << 24


def test_an_archive_without_a_byte_order(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    data = rewritten(saved(tied()), lambda name, content: content)
    put(store, data.replace(b"archive/byteorder", b"archive/bytes-or-so"[:17]))
    assert same(checkpoint.load(URI), tied())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_another_tool_has_written(
    checkpoint: S3Checkpoint, store: MemoryStore, compression: int
) -> None:
    source = zipfile.ZipFile(io.BytesIO(saved(tied())))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    check(checkpoint, store, file.getvalue())


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
def test_torchscript_archives(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    module = torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3))
    file = io.BytesIO()
    torch.jit.save(module, file)
    put(store, file.getvalue())
    loaded = checkpoint.load(URI, weights_only=False)
    assert torch.equal(loaded(torch.ones(1, 3)), module(torch.ones(1, 3)))


def test_numpy_values_load_with_deferred_tensors(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    numpy = pytest.importorskip("numpy")
    value = {"array": numpy.arange(12.0).reshape(3, 4), "tensor": torch.randn(3000)}
    check(checkpoint, store, saved(value), weights_only=False)


def test_under_fake_tensors_nothing_is_read_but_the_pickle(
    checkpoint: S3Checkpoint, store: MemoryStore, engine: Any
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    put(store, saved({"a": torch.randn(4_000_000)}))
    with FakeTensorMode():
        loaded = checkpoint.load(URI)
    assert loaded["a"].shape == (4_000_000,)
    assert sum((get.end or 0) - (get.start or 0) for get in engine.gets) < 1 << 20


def test_small_tensors_take_few_requests(checkpoint: S3Checkpoint, store: MemoryStore, engine: Any) -> None:
    check(checkpoint, store, saved({f"layer{number}": torch.randn(10_000) for number in range(300)}))
    assert len(engine.gets) <= 20


def test_each_byte_is_fetched_once(checkpoint: S3Checkpoint, store: MemoryStore, engine: Any) -> None:
    data = saved({f"layer{number}": torch.randn(1_000_000) for number in range(10)})
    check(checkpoint, store, data)
    assert sum(get.end - get.start for get in engine.gets) <= len(data) + (1 << 20)
    assert max(get.end - get.start for get in engine.gets) <= 5 << 20


@pytest.mark.parametrize("weights_only", [True, False])
def test_the_store_s_error_is_the_error_wherever_it_strikes(
    checkpoint: S3Checkpoint, store: MemoryStore, engine: Any, weights_only: bool
) -> None:
    put(store, saved({f"layer{number}": torch.randn(1_000_000) for number in range(4)}))
    checkpoint.load(URI)
    count = len(engine.gets)
    assert count > 4
    for failing in range(1, count + 1):
        engine.gets.clear()
        engine.failing_get = failing
        with pytest.raises(ServerError):
            checkpoint.load(URI, weights_only=weights_only)


def test_the_error_of_the_plain_way_is_the_store_s_too(
    checkpoint: S3Checkpoint, store: MemoryStore, engine: Any
) -> None:
    value = [Own(torch.randn(1_000_000)), torch.randn(1_000_000)]
    put(store, saved(value))
    checkpoint.load(URI, weights_only=False)
    errors = 0
    for failing in range(1, len(engine.gets) + 1):
        engine.gets.clear()
        engine.failing_get = failing
        try:
            loaded = checkpoint.load(URI, weights_only=False)
        except ServerError:
            errors += 1
        else:
            assert same(loaded, value)  # the reader did without the request this time
    assert errors >= 3


def test_an_object_replaced_while_it_is_read(checkpoint: S3Checkpoint, store: MemoryStore, engine: Any) -> None:
    put(store, saved({"a": torch.zeros(1_000_000)}))
    new = saved({"a": torch.ones(1_000_000)})

    def replace(number: int) -> None:
        if number == 3:
            put(store, new)

    engine.before_get = replace
    with pytest.raises(ObjectChangedError):
        checkpoint.load(URI)


def test_what_torch_refuses_it_refuses_here(checkpoint: S3Checkpoint, store: MemoryStore) -> None:
    put(store, saved(Own(torch.zeros(10))))
    with pytest.raises(pickle.UnpicklingError, match="Own"):
        checkpoint.load(URI)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no archive at all" * 100, None, "cut", "pickle"])
def test_damaged_objects_are_errors(checkpoint: S3Checkpoint, store: MemoryStore, damage: bytes | str | None) -> None:
    whole = saved({"a": torch.randn(100_000)})
    if damage is None:
        data = whole[: len(whole) // 2]
    elif damage == "cut":
        data = whole[:-1]
    elif damage == "pickle":
        at = whole.index(b"\x80\x02")
        data = whole[:at] + b"\xff" * 20 + whole[at + 20 :]
    else:
        assert isinstance(damage, bytes)
        data = damage
    put(store, data)
    with pytest.raises(Exception) as expected:  # whatever torch says
        torch.load(io.BytesIO(data))
    with pytest.raises(Exception) as caught:  # the same
        checkpoint.load(URI)
    assert type(caught.value) is type(expected.value)


def test_a_missing_object(checkpoint: S3Checkpoint) -> None:
    with pytest.raises(S3NotFoundError):
        checkpoint.load(URI)
