"""Bytes go from the socket into the tensor that is the sample."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from torch.utils.data import DataLoader

from s3torch.client import CacheConfig, ObjectNotFoundError, S3ClientConfig
from s3torch.client.memory import MemoryEngine
from s3torch.datasets import S3IterableDataset, S3MapDataset, decode
from s3torch.datasets.decode._placing import TensorReader
from s3torch.readers import S3ReaderConstructor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from libs.datasets.tests.conftest import Place, Served

MIB = 2**20
DATA = {f"{number}.bin": bytes([number]) * (1 + 50_000 * number) for number in range(20)}


@dataclass(frozen=True)
class Watching(decode.Tensor):
    """Notes what it was given, and what it made."""

    seen: ClassVar[list[tuple[str, bool]]] = []

    def decode(self, reader: Any) -> torch.Tensor:
        sample = super().decode(reader)
        placed = isinstance(reader, TensorReader)
        assert not placed or sample.data_ptr() == reader.tensor.data_ptr()
        self.seen.append((reader.key, placed))
        return sample


@pytest.fixture
def seen() -> Iterator[list[tuple[str, bool]]]:
    Watching.seen.clear()
    yield Watching.seen
    Watching.seen.clear()


def iterable(memory: Place, transform: Any, config: S3ClientConfig | None = None, **options: Any) -> S3IterableDataset:
    return S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=transform, s3client_config=config or memory.config(), **options
    )


def as_bytes(samples: Any) -> list[bytes]:
    return [sample.numpy().tobytes() for sample in samples]


def test_what_is_fetched_ahead_is_in_the_sample_already(memory: Place, seen: list[tuple[str, bool]]) -> None:
    memory.fill(DATA)
    samples = list(iterable(memory, Watching()))
    assert as_bytes(samples) == [DATA[key] for key in sorted(DATA)]
    assert seen == [(key, True) for key in sorted(DATA)]
    assert len({sample.data_ptr() for sample in samples}) == len(DATA)


def test_batches_by_index_too(memory: Place, seen: list[tuple[str, bool]]) -> None:
    memory.fill(DATA)
    dataset = S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=Watching(shared=True), s3client_config=memory.config()
    )
    samples = dataset.__getitems__([3, 1, 3])
    assert as_bytes(samples) == [DATA[sorted(DATA)[number]] for number in (3, 1, 3)]
    assert all(placed for _, placed in seen)
    assert all(sample.is_shared() for sample in samples)


@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize("engine", ["direct", "boto3"])
def test_from_a_real_server(served: Served, seen: list[tuple[str, bool]], engine: str) -> None:
    dataset = S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=Watching(),
        s3client_config=S3ClientConfig(engine=engine),
    )
    assert as_bytes(dataset) == list(served.objects.values())
    assert [placed for _, placed in seen] == [True] * len(served.objects)


def test_large_and_empty_objects_are_read(memory: Place, seen: list[tuple[str, bool]]) -> None:
    objects = {"a": b"", "b": bytes(range(256)) * 24_576, "c": b"c"}
    memory.fill(objects)
    samples = list(iterable(memory, Watching(), memory.config(part_size=5 * MIB)))
    assert as_bytes(samples) == list(objects.values())
    assert seen == [("a", False), ("b", False), ("c", True)]


def test_objects_of_unknown_size(memory: Place, seen: list[tuple[str, bool]]) -> None:
    objects = {"a": b"a" * 1000, "b": bytes(range(256)) * 5000, "c": b"", "d": b"d" * MIB}
    memory.fill(objects)
    dataset = S3IterableDataset.from_objects(
        [f"s3://bucket/{key}" for key in objects],
        region="us-east-1",
        transform=Watching(),
        s3client_config=memory.config(),
    )
    assert as_bytes(dataset) == list(objects.values())
    assert seen == [("a", True), ("b", False), ("c", False), ("d", True)]


def other_reader(**options: Any) -> Any:
    return S3ReaderConstructor.sequential()(**options)


@pytest.mark.parametrize("constructor", [other_reader, S3ReaderConstructor.range_based()])
def test_other_readers_are_not_passed_by(memory: Place, seen: list[tuple[str, bool]], constructor: Any) -> None:
    memory.fill(DATA)
    assert as_bytes(iterable(memory, Watching(), reader_constructor=constructor)) == [DATA[key] for key in sorted(DATA)]
    assert not any(placed for _, placed in seen)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: decode.Compose(inner, lambda tensor: tensor),
        lambda inner: decode.WithLabel(inner, len),
        lambda inner: decode.ByExtension({"bin": inner}),
    ],
    ids=["compose", "label", "extension"],
)
def test_decoders_around_it_pass_it_on(memory: Place, seen: list[tuple[str, bool]], wrap: Any) -> None:
    memory.fill({"a.bin": b"abc", "b.txt": b"text"})
    made = iterable(memory, wrap(Watching()))
    samples = [sample[0] if isinstance(sample, tuple) else sample for sample in made]
    assert as_bytes(samples[:1]) == [b"abc"]
    assert seen[0] == ("a.bin", True)
    if isinstance(samples[1], str):
        assert samples[1] == "text"
        assert len(seen) == 1


def test_with_labels_from_threads(memory: Place, seen: list[tuple[str, bool]]) -> None:
    memory.fill(DATA)
    assert as_bytes(iterable(memory, Watching(), transform_workers=2)) == [DATA[key] for key in sorted(DATA)]
    assert all(placed for _, placed in seen)


def test_from_the_cache(memory: Place, seen: list[tuple[str, bool]], tmp_path: Path) -> None:
    memory.fill(DATA)
    config = S3ClientConfig(
        engine=lambda context: MemoryEngine(context, memory.store), cache=CacheConfig(str(tmp_path / "cache"))
    )
    for _ in range(2):
        assert as_bytes(iterable(memory, Watching(), config)) == [DATA[key] for key in sorted(DATA)]
    assert all(placed for _, placed in seen)


def test_errors_are_what_they_are(memory: Place) -> None:
    memory.fill({"a": b"a"})
    dataset = S3IterableDataset.from_objects(
        ["s3://bucket/a", "s3://bucket/none"],
        region="us-east-1",
        transform=decode.Tensor(),
        s3client_config=memory.config(),
    )
    samples = iter(dataset)
    assert as_bytes([next(samples)]) == [b"a"]
    with pytest.raises(ObjectNotFoundError, match="none"):
        next(samples)


@dataclass(frozen=True)
class Broken(decode.Tensor):
    def _allocate(self, size: int) -> torch.Tensor:
        raise RuntimeError("no room")


def test_no_memory_is_an_error_at_its_object(memory: Place) -> None:
    memory.fill({"a": b"a", "b": b"b"})
    dataset = iterable(memory, Broken(), on_error="skip")
    assert list(dataset) == []
    assert [skipped.key for skipped in dataset.stats().skipped_objects] == ["a", "b"]


def test_a_sample_may_be_kept_and_written_to(memory: Place) -> None:
    memory.fill(DATA)
    kept = [sample.add_(1) for sample in DataLoader(iterable(memory, decode.Tensor()), batch_size=None)]
    assert as_bytes(kept) == [
        bytes((byte + 1) % 256 for byte in DATA[key][:1]) * len(DATA[key]) for key in sorted(DATA)
    ]


def test_the_reader_reads_as_a_file_does() -> None:
    data = bytes(range(100))
    reader, file = TensorReader("bucket", "key", torch.tensor(list(data), dtype=torch.uint8)), io.BytesIO(data)
    for step in ((0, 0), (10, 0), (-30, 2), (0, 2), (5, 0), (-5, 1)):
        assert reader.seek(*step) == file.seek(*step)
        assert reader.read(7) == file.read(7)
        mine, theirs = bytearray(5), bytearray(5)
        assert reader.readinto(mine) == file.readinto(theirs)
        assert mine == theirs
        assert reader.tell() == file.tell()
    assert reader.seek(40) == file.seek(40)
    assert reader.read() == file.read()
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)


def test_pinned_memory_is_for_accelerators(memory: Place) -> None:
    memory.fill({"a": b"a"})
    (sample,) = iterable(memory, decode.Tensor(pinned=True))
    assert sample.is_pinned() == torch.accelerator.is_available()
    assert as_bytes([sample]) == [b"a"]
    with pytest.raises(ValueError, match="shared or pinned"):
        decode.Tensor(shared=True, pinned=True)
