"""What happens with objects of which no sample can be made, and transforms in threads."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler, Subset, random_split

from s3torch.client import (
    BucketNotFoundError,
    ObjectNotFoundError,
    S3BucketKeyData,
    S3ClientConfig,
    S3ConnectionError,
)
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.readers import S3Reader, S3ReaderConstructor

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, Served

Dataset = S3MapDataset | S3IterableDataset
KEYS = [f"{index:02}" for index in range(12)]
OBJECTS = {key: f"object {key}".encode() for key in KEYS}
URIS = [f"s3://bucket/{key}" for key in (*KEYS[:5], "missing", *KEYS[5:])]


class DamagedError(Exception):
    """What a decoder raises."""


def read(reader: S3Reader) -> str:
    return reader.read().decode()


def decode(reader: S3Reader) -> str:
    """Fail for the objects whose number ends with 3."""
    data = reader.read().decode()
    if data.endswith("3"):
        raise DamagedError(data)
    return data


@pytest.fixture(params=[S3MapDataset, S3IterableDataset])
def style(request: pytest.FixtureRequest) -> type[Dataset]:
    found: type[Dataset] = request.param
    return found


@pytest.fixture(params=[0, 1, 3], ids=lambda count: f"{count}-threads")
def workers(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def make(style: type[Dataset], memory: Place, **options: Any) -> Any:
    memory.fill(OBJECTS)
    return style.from_objects(URIS, region="us-east-1", s3client_config=memory.config(), **options)


def samples(dataset: Dataset) -> list[Any]:
    if isinstance(dataset, S3MapDataset):
        return dataset.__getitems__(range(len(dataset)))
    return list(dataset)


def expected(*without: str) -> list[str]:
    return [f"object {key}" for key in KEYS if key not in without]


def test_an_error_comes_at_its_object_and_names_it(style: type[Dataset], memory: Place, workers: int) -> None:
    seen = []

    def note(reader: S3Reader) -> str:
        seen.append(reader.key)
        return read(reader)

    dataset = make(style, memory, transform=note, transform_workers=workers)
    with pytest.raises(ObjectNotFoundError, match="s3://bucket/missing"):
        samples(dataset)
    assert seen[:6] == [*KEYS[:5], "missing"] or workers > 1


def test_a_stream_gives_what_comes_before_an_error(memory: Place, workers: int) -> None:
    source = iter(make(S3IterableDataset, memory, transform=read, transform_workers=workers))
    assert [next(source) for _ in range(5)] == expected()[:5]
    with pytest.raises(ObjectNotFoundError):
        next(source)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have notes since Python 3.11")
def test_the_error_of_a_transform_keeps_its_type_and_names_the_object(
    style: type[Dataset], memory: Place, workers: int
) -> None:
    with pytest.raises(DamagedError) as caught:
        samples(make(style, memory, transform=decode, transform_workers=workers))
    notes: list[str] = vars(caught.value)["__notes__"]
    assert "s3://bucket/03" in notes[0]


def test_skipped_objects_are_left_out_and_counted(style: type[Dataset], memory: Place, workers: int) -> None:
    dataset = make(style, memory, transform=decode, on_error="skip", transform_workers=workers)
    assert samples(dataset) == expected("03")
    stats = dataset.stats()
    assert (stats.objects, stats.skipped) == (11, 2)
    assert [(one.bucket, one.key) for one in stats.skipped_objects] == [("bucket", "03"), ("bucket", "missing")]
    assert stats.skipped_objects[0].error == "DamagedError: object 03"
    assert "ObjectNotFoundError" in stats.skipped_objects[1].error


def test_the_list_of_what_was_skipped_is_bounded(memory: Place) -> None:
    memory.fill({f"{'k' * 900}{index:04}": b"" for index in range(50)})

    def fail(reader: S3Reader) -> None:
        raise DamagedError("x" * 100_000)

    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=fail, on_error="skip", s3client_config=memory.config()
    )
    for count in (50, 100):
        assert list(dataset) == []
        stats = dataset.stats()
        assert stats.skipped == count
        assert len(stats.skipped_objects) == 3
        assert all(len(one.error) <= 200 for one in stats.skipped_objects)


def test_a_function_decides(style: type[Dataset], memory: Place, workers: int) -> None:
    asked: list[tuple[str, type[Exception], str]] = []

    def replace(item: S3BucketKeyData, error: Exception) -> Any:
        asked.append((item.key, type(error), threading.current_thread().name))
        return "skip" if item.key == "missing" else None

    dataset = make(style, memory, transform=decode, on_error=replace, transform_workers=workers)
    assert samples(dataset) == [*expected()[:3], None, *expected()[4:]]
    here = threading.current_thread().name
    assert asked == [("03", DamagedError, here), ("missing", ObjectNotFoundError, here)]
    assert (dataset.stats().objects, dataset.stats().skipped) == (12, 1)


def test_a_function_may_raise(style: type[Dataset], memory: Place, workers: int) -> None:
    def refuse(item: S3BucketKeyData, error: Exception) -> Any:
        raise LookupError(item.key) from error

    with pytest.raises(LookupError, match="03") as caught:
        samples(make(style, memory, transform=decode, on_error=refuse, transform_workers=workers))
    assert isinstance(caught.value.__cause__, DamagedError)


def test_an_index_of_its_own_has_nothing_to_skip_to(memory: Place) -> None:
    dataset = make(S3MapDataset, memory, transform=decode, on_error="skip")
    with pytest.raises(DamagedError):
        dataset[3]
    with pytest.raises(ObjectNotFoundError):
        dataset[5]
    assert dataset[4] == "object 04"
    dataset = make(S3MapDataset, memory, transform=decode, on_error=lambda item, error: item.key)
    assert (dataset[3], dataset[5]) == ("03", "missing")


def test_readers_of_ranges_skip_too(style: type[Dataset], memory: Place) -> None:
    dataset = make(
        style, memory, transform=decode, on_error="skip", reader_constructor=S3ReaderConstructor.range_based()
    )
    assert samples(dataset) == expected("03")


def test_what_would_meet_every_object_is_raised_all_the_same(style: type[Dataset], memory: Place) -> None:
    options: dict[str, Any] = {"region": "us-east-1", "transform": read, "on_error": "skip"}
    with pytest.raises(BucketNotFoundError):
        samples(style.from_objects("s3://no-such-bucket/k", s3client_config=memory.config(), **options))
    nobody = style.from_objects(
        "s3://bucket/k",
        endpoint="http://127.0.0.1:1",
        s3client_config=S3ClientConfig(max_attempts=1, unsigned=True),
        **options,
    )
    with pytest.raises(S3ConnectionError):
        samples(nobody)


def test_an_error_of_the_listing_is_no_object_to_skip(memory: Place, workers: int) -> None:
    memory.fill(OBJECTS)

    def choose(_: object) -> Any:
        yield S3BucketKeyData("bucket", "00")
        yield S3BucketKeyData("bucket", "01")
        raise PermissionError("the second page")

    dataset = S3IterableDataset(
        "us-east-1",
        choose,
        transform=read,
        on_error="skip",
        transform_workers=workers,
        s3client_config=memory.config(),
    )
    source = iter(dataset)
    assert [next(source), next(source)] == ["object 00", "object 01"]
    with pytest.raises(PermissionError):
        next(source)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_error": "ignore"}, ValueError),
        ({"on_error": None}, TypeError),
        ({"transform_workers": -1}, ValueError),
        ({"transform_workers": 1.5}, TypeError),
        ({"transform_workers": True}, TypeError),
    ],
)
def test_bad_options_fail_at_once(style: type[Dataset], options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        style.from_prefix("s3://bucket", region="us-east-1", **options)


# ------------------------------------------------------------------------------------------------------------- batches


def numbers(batches: Any) -> list[list[str]]:
    return [[sample.removeprefix("object ") for sample in batch] for batch in batches]


def test_batches_lose_only_what_was_skipped(memory: Place, workers: int) -> None:
    dataset = make(S3MapDataset, memory, transform=decode, on_error="skip", transform_workers=workers)
    assert numbers(DataLoader(dataset, batch_size=4, collate_fn=list)) == [
        ["00", "01", "02"],
        ["04", "05", "06"],
        ["07", "08", "09", "10"],
        ["11"],
    ]
    batches = BatchSampler(SequentialSampler(range(6)), 3, drop_last=False)
    assert numbers(DataLoader(dataset, batch_sampler=batches, collate_fn=list)) == [["00", "01", "02"], ["04"]]


def test_splits_and_samplers_keep_batches_together(memory: Place, workers: int) -> None:
    dataset = make(S3MapDataset, memory, transform=read, on_error="skip", transform_workers=workers)
    assert numbers(DataLoader(Subset(dataset, [7, 5, 2]), batch_size=3, collate_fn=list)) == [["06", "02"]]
    parts = random_split(dataset, [6, 7], torch.Generator().manual_seed(0))
    seen = [numbers(DataLoader(part, batch_size=4, collate_fn=list)) for part in parts]
    assert sorted(one for batches in seen for batch in batches for one in batch) == KEYS
    ranks: list[Any] = [DistributedSampler(dataset, 2, rank, shuffle=False) for rank in range(2)]
    loaded = [numbers(DataLoader(dataset, batch_size=7, sampler=rank, collate_fn=list)) for rank in ranks]
    assert loaded[0] == [["00", "02", "04", "05", "07", "09", "11"]]
    assert loaded[1] == [["01", "03", "06", "08", "10", "00"]]
    assert dataset.stats().window_peak >= 3


@pytest.mark.usefixtures("dummy_aws_env")
def test_workers_skip_and_tell_the_process_that_made_them(served: Served) -> None:
    uris = [f"s3://{served.bucket}/{key}" for key in (*list(served.objects)[:9], "train/none")]
    dataset = S3MapDataset.from_objects(
        uris, region=served.region, endpoint=served.endpoint, transform=_key, on_error="skip"
    )
    loader: Any = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=list, timeout=60)
    assert [sample for batch in loader for sample in batch] == list(served.objects)[:9]
    stats = dataset.stats()
    assert (stats.objects, stats.skipped, [one.key for one in stats.skipped_objects]) == (9, 1, ["train/none"])


def _key(reader: S3Reader) -> str:
    reader.read(1)
    return reader.key


# ------------------------------------------------------------------------------------------------------------- threads


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("s3torch")]


def test_transforms_overlap_and_stay_in_order(style: type[Dataset], memory: Place) -> None:
    running = most = 0
    lock = threading.Lock()
    together = threading.Barrier(4, timeout=30)  # passes only if four threads transform at once

    def slow(reader: S3Reader) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if reader.key in KEYS[:4]:
            together.wait()
        if reader.key.endswith(("0", "4")):  # the first is not the first to end
            time.sleep(0.03)
        with lock:
            running -= 1
        return read(reader)

    dataset = make(style, memory, transform=slow, transform_workers=4, on_error="skip")
    assert samples(dataset) == expected()
    assert most == 4
    assert our_threads() == []


def test_few_samples_are_made_ahead_and_no_thread_is_left_behind(memory: Place) -> None:
    made = []

    def note(reader: S3Reader) -> str:
        made.append(reader.key)
        return read(reader)

    memory.fill({f"{index:04}": b"" for index in range(500)})
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=note, transform_workers=2, s3client_config=memory.config()
    )
    source: Any = iter(dataset)
    next(source)
    time.sleep(0.05)
    assert 1 <= len(made) <= 5
    assert our_threads()
    source.close()
    assert our_threads() == []
    assert memory.engines[0].in_flight == 0


def test_an_error_ends_the_threads(memory: Place) -> None:
    with pytest.raises(DamagedError):
        samples(make(S3IterableDataset, memory, transform=decode, transform_workers=3))
    assert our_threads() == []


@pytest.mark.usefixtures("dummy_aws_env")
def test_large_objects_are_read_in_the_threads(served: Served) -> None:
    # Nothing is fetched ahead of ranges: each thread reads for itself.
    dataset = S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=lambda reader: (reader.key, reader.read()),
        transform_workers=3,
        reader_constructor=S3ReaderConstructor.range_based(),
    )
    assert list(dataset) == list(served.objects.items())
