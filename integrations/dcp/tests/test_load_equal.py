"""`S3StorageReader` loads what torch's own reader loads, to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.loading import (
    URI,
    Chunks,
    Place,
    emptied,
    grid,
    laid_out,
    load,
    numbers,
    same,
    save_stock,
    upload,
)

from s3torch.dcp import S3StorageWriter

NAMES = (
    "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
    " uint16 uint32 uint64 float8_e4m3fn float8_e5m2"
)
TYPES = [getattr(torch, name) for name in NAMES.split()]
# Torch itself says so of what it is asked to do here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:ComplexHalf", "ignore:.*quantized tensor creation", "ignore:TypedStorage is deprecated"
)


@pytest.fixture
def place() -> Place:
    return Place()


def random_shape(random: Random) -> tuple[int, ...]:
    dimensions = random.choice([0, 1, 1, 2, 2, 2, 3, 4])
    largest = random.choice([5, 5, 40]) if dimensions > 2 else random.choice([9, 300, 700])
    return tuple(random.randint(0 if random.random() < 0.05 else 1, largest) for _ in range(dimensions))


def random_state(random: Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is saved, and twice the same empty state of other chunks and layouts."""
    saved: dict[str, Any] = {}
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for number in range(random.randint(1, 3)):
        name, shape, dtype = f"layer{number}", random_shape(random), random.choice(TYPES)
        wanted = random.choice(TYPES[7:9]) if dtype.is_floating_point and random.random() < 0.2 else dtype
        if not shape:
            saved[name] = numbers(random, shape, dtype)
            first[name], second[name] = torch.zeros((), dtype=wanted), torch.zeros((), dtype=wanted)
            continue
        saved[name] = Chunks(shape, [(offset, numbers(random, size, dtype)) for offset, size in grid(random, shape)])
        boxes = grid(random, shape)
        boxes = random.sample(boxes, random.randint(1, len(boxes)))
        chunks = [(offset, laid_out(random, size, wanted)) for offset, size in boxes]
        first[name] = Chunks(shape, chunks)
        second[name] = Chunks(shape, [(offset, torch.zeros_like(chunk)) for offset, chunk in chunks])
    saved["epoch"], first["epoch"], second["epoch"] = random.randint(0, 9), None, None
    return saved, first, second


@pytest.mark.parametrize("seed", range(10))
def test_random_reshardings(place: Place, tmp_path: Path, seed: int) -> None:
    for number in range(30):
        random = Random(f"{seed}/{number}")
        saved, expected, found = random_state(random)
        folder = tmp_path / str(number)
        save_stock(saved, folder)
        place.clear()
        if random.random() < 0.5:
            upload(folder, place.store)
        else:
            place.save(saved)
        place.engine.helpers = random.choice([0, 2])
        load(expected, dcp.FileSystemReader(folder))
        load(found, place.reader(memory_budget=random.choice([1, 1 << 20, 96 << 20])))
        assert found["epoch"] == expected["epoch"] == saved["epoch"]
        for name, value in found.items():
            if isinstance(value, Chunks):
                for (_, left), (_, right) in zip(value.chunks, expected[name].chunks, strict=True):
                    assert same(left, right), (seed, number, name)
            else:
                assert same(value, expected[name]), (seed, number, name)


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.randn(300, 300), 0.1, 0, torch.qint8)


KINDS: dict[str, Callable[[], torch.Tensor]] = {
    **{name: partial(numbers, Random(1), (300, 301), dtype) for name, dtype in zip(NAMES.split(), TYPES, strict=True)},
    "scalar": lambda: torch.tensor(2.5),
    "empty": lambda: torch.zeros(3, 0, 2),
    "transposed": lambda: torch.randn(300, 200).t(),
    "channels last": lambda: torch.randn(2, 3, 140, 150).to(memory_format=torch.channels_last),
    "every second": lambda: torch.randn(90_000)[::2],
    "middle": lambda: torch.randn(90_000)[1000:50_000],
    "row": lambda: torch.randn(300, 50_000)[3],
    "expanded": lambda: torch.randn(300, 1).expand(300, 400),
    "conjugate": lambda: torch.randn(50_000, dtype=torch.complex64).conj(),
    "negative": lambda: torch.randn(50_000, dtype=torch.complex64).conj().imag,
    "parameter": lambda: torch.nn.Parameter(torch.randn(300, 300)),
    "large": lambda: torch.randn(3_000_000),
}


@pytest.mark.parametrize("how", ["stock", "ours"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor(place: Place, tmp_path: Path, kind: str, how: str) -> None:
    torch.manual_seed(1)
    saved: dict[str, Any] = {
        "first": torch.randn(3),
        "value": KINDS[kind](),
        "nested": {"last": [torch.randn(2), "text"]},
    }
    if how == "stock":
        save_stock(saved, tmp_path)
        upload(tmp_path, place.store)
    else:
        place.save(saved)
    found = load(emptied(saved), place.reader())
    assert same(found["value"], saved["value"].detach())
    assert same(found["nested"], saved["nested"])
    assert same(found["first"], saved["first"])


def test_targets_of_any_layout_and_type(place: Place) -> None:
    value = torch.randn(400, 300)
    place.save({"value": value})
    for target in (
        torch.zeros(300, 400).t(),
        torch.zeros(400, 600)[:, ::2],
        torch.zeros(400, 300, dtype=torch.float64),
        torch.zeros(400, 300, dtype=torch.bfloat16),
        torch.nn.Parameter(torch.zeros(400, 300)),
        torch.zeros(400, 300, dtype=torch.complex64).conj(),
        torch.zeros(400, 300, dtype=torch.complex64).conj().imag,
    ):
        state = load({"value": target}, place.reader())
        assert state["value"] is target
        assert torch.equal(target.detach(), value.to(target.dtype))


def test_quantized_tensors_load_as_with_torch(place: Place, tmp_path: Path) -> None:
    value = quantized()
    save_stock({"value": value}, tmp_path)
    upload(tmp_path, place.store)
    target = quantized()
    assert not torch.equal(target, value)
    load({"value": target}, place.reader())
    assert torch.equal(target, value)


def test_a_planner_that_saves_another_type_than_it_says(place: Place) -> None:
    class Halves(dcp.DefaultSavePlanner):
        def transform_object(self, write_item: Any, object: Any) -> Any:  # noqa: A002  # torch's name
            return object.half() if isinstance(object, torch.Tensor) else super().transform_object(write_item, object)

    value = torch.randn(300, 300)
    writer = S3StorageWriter("us-east-1", URI, place.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"value": value}, storage_writer=writer, planner=Halves())
    found = load({"value": torch.zeros(300, 300)}, place.reader())
    assert torch.equal(found["value"], value.half().float())


def test_archives_of_several_kinds_of_storage_alignment(place: Place, tmp_path: Path) -> None:
    config = pytest.importorskip("torch.utils.serialization").config
    if not hasattr(config.save, "storage_alignment"):
        pytest.skip("this torch has one alignment")
    value = torch.randn(300, 300)
    with config.patch({"save.storage_alignment": 4096}):
        save_stock({"value": value}, tmp_path)
    upload(tmp_path, place.store)
    assert torch.equal(load({"value": torch.zeros(300, 300)}, place.reader())["value"], value)


def test_autograd_learns_of_the_change(place: Place) -> None:
    place.save({"value": torch.randn(400)})
    weight = torch.ones(400, requires_grad=True)
    with torch.no_grad():
        alias = weight.view(400)
    result = (weight * weight).sum()
    load({"value": alias}, place.reader())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_inside_inference_mode(place: Place) -> None:
    value = torch.randn(400, 300)
    place.save({"value": value})
    for helpers in (0, 2):
        place.engine.helpers = helpers
        with torch.inference_mode():
            found = load({"value": torch.zeros(400, 300), "again": torch.zeros(1)}, place.reader(), planner=PARTIAL)
            other = load({"value": torch.zeros(300, 400).t()}, place.reader())
        assert torch.equal(found["value"], value)
        assert torch.equal(other["value"], value)


PARTIAL = dcp.DefaultLoadPlanner(allow_partial_load=True)
