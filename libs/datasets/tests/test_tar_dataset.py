"""`S3TarDataset` over objects in memory, and over a real server with real workers."""

from __future__ import annotations

import pickle
import random
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from libs.datasets.tests.tars import MIB, every_key, keys, make, put_shards, shard_of
from torch.utils.data import DataLoader

from s3torch.client import ObjectChangedError, ObjectNotFoundError, S3BucketKeyData, S3ClientConfig
from s3torch.datasets.tar import S3TarDataset, TarError
from s3torch.datasets.tar._braces import expand_braces

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

    from s3torch.harness.servers import MotoServer


def test_samples_come_in_order(memory: Place) -> None:
    put_shards(memory, [3, 0, 2])
    samples = list(make(memory))
    assert keys(samples) == every_key([3, 0, 2])
    assert samples[3] == {
        "__key__": "002/00000",
        "__url__": "s3://bucket/shards/002.tar",
        "bin": random.Random("002/00000").randbytes(40),
        "cls": b"0",
    }
    assert all(type(sample["bin"]) is bytes for sample in samples)


def test_the_transform_is_given_the_sample(memory: Place) -> None:
    put_shards(memory, [2])
    assert list(make(memory, transform=lambda sample: (sample["__key__"], int(sample["cls"])))) == [
        ("000/00000", 0),
        ("000/00001", 1),
    ]


def test_views_lie_in_the_parts(memory: Place) -> None:
    put_shards(memory, [3])
    samples = list(make(memory, views=True))
    assert {type(sample["bin"]) for sample in samples} == {memoryview}
    assert samples[0]["bin"].obj is samples[2]["cls"].obj
    assert bytes(samples[2]["bin"]) == random.Random("000/00002").randbytes(42)


def test_large_shards_are_read_in_parts(memory: Place) -> None:
    put_shards(memory, [5, 5], size=MIB)
    dataset = make(memory, config=memory.config(window_bytes=4 * MIB))
    assert [sample["bin"] for sample in dataset] == [
        random.Random(key).randbytes(MIB + int(key[-1]) % 7) for key in every_key([5, 5])
    ]
    engine = memory.engines[-1]
    assert len(engine.requests) > 10
    assert all(request.etag for request in engine.requests)
    spans = sorted((request.key, request.start, request.end) for request in engine.requests)
    for before, after in pairwise(spans):
        assert before[0] != after[0] or before[2] == after[1]  # each byte once


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_next_shards_are_in_flight_and_memory_is_bounded(memory: Place, shuffle: bool) -> None:
    put_shards(memory, [20] * 12, size=50_000)
    dataset = make(memory, config=memory.config(window_bytes=4 * MIB), shuffle=shuffle, shuffle_buffer=20)
    source = iter(dataset)
    next(source)
    engine = memory.engines[-1]
    assert len({request.key for request in engine.requests}) > (3 if not shuffle else 1)
    peak = 0
    for _ in source:
        asked = zip(engine.requests, engine.flying, strict=True)
        peak = max(peak, sum((get.end or 0) - (get.start or 0) for get, transfer in asked if not transfer.ended))
    assert MIB < peak <= 4 * MIB


def test_shards_of_unknown_size(memory: Place) -> None:
    put_shards(memory, [4, 3, 4], size=MIB // 2)
    dataset = S3TarDataset.from_objects(
        "s3://bucket/shards/{000..002}.tar", region="us-east-1", s3client_config=memory.config()
    )
    assert keys(dataset) == every_key([4, 3, 4])
    engine = memory.engines[-1]
    assert len({(request.key, request.start) for request in engine.requests}) == len(engine.requests)
    assert len(engine.requests) == 6
    assert all((request.etag is None) == (request.start == 0) for request in engine.requests)


def test_shuffling_visits_each_sample_once_in_an_order_of_each_epoch(memory: Place) -> None:
    counts = [30, 50, 0, 7, 41, 1, 28]
    put_shards(memory, counts)
    dataset = make(memory, shuffle=True, seed=3, shuffle_buffer=40)
    first = keys(dataset)
    assert first == keys(dataset)
    assert sorted(first) == every_key(counts) != first
    dataset.set_epoch(1)
    second = keys(dataset)
    assert sorted(second) == every_key(counts)
    assert second != first
    assert keys(make(memory, shuffle=True, seed=3, shuffle_buffer=40)) == first
    assert keys(make(memory, shuffle=True, seed=4, shuffle_buffer=40)) != first


def test_shuffling_mixes_shards_and_samples(memory: Place) -> None:
    counts = [200] * 8
    put_shards(memory, counts)
    order = keys(make(memory, shuffle=True, shuffle_buffer=400, shuffle_shards=4))
    shards = [key[:3] for key in order]
    assert all(len(set(shards[at : at + 40])) == 4 for at in range(0, 700, 40))
    within = [int(key[-5:]) for key in order if key[:3] == shards[0]]
    assert sorted(within[:100]) == list(range(100))  # the first block
    moved = sum(abs(place - item) for place, item in enumerate(within)) / len(within)
    assert 20 < moved < 50  # a third of a block, on average


def test_what_is_shuffled_is_bounded_in_bytes(memory: Place) -> None:
    put_shards(memory, [50], size=MIB // 8)
    config = memory.config(window_bytes=2 * MIB)
    order = [int(key[-5:]) for key in keys(make(memory, shuffle=True, shuffle_shards=1, config=config))]
    assert sorted(order) == list(range(50))
    assert max(abs(place - item) for place, item in enumerate(order)) < 10


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_consumers_share_out_the_shards(memory: Place, world: int, shuffle: bool) -> None:
    counts = [3, 1, 4, 1, 5, 9, 2]
    put_shards(memory, counts)
    parts = [keys(make(memory, shuffle=shuffle, shard=(rank, world))) for rank in range(world)]
    assert sorted(key for part in parts for key in part) == every_key(counts)
    if world == 8:
        assert sum(not part for part in parts) == 1


@pytest.mark.parametrize(("uneven", "expected"), [("keep", [6, 4, 4]), ("drop", [4, 4, 4]), ("pad", [6, 6, 6])])
def test_uneven_shards(memory: Place, uneven: Any, expected: list[int]) -> None:
    put_shards(memory, [2] * 7)
    found = [keys(make(memory, shard=(rank, 3), uneven=uneven)) for rank in range(3)]
    assert [len(part) for part in found] == expected
    if uneven == "pad":
        assert Counter(key for part in found for key in part).most_common(1)[0][1] == 2
        assert {key for part in found for key in part} == set(every_key([2] * 7))


def test_fewer_shards_than_consumers(memory: Place) -> None:
    put_shards(memory, [2, 2])
    assert [len(keys(make(memory, shard=(rank, 3)))) for rank in range(3)] == [2, 2, 0]
    assert [len(keys(make(memory, shard=(rank, 3), uneven="pad"))) for rank in range(3)] == [2, 2, 2]
    with pytest.raises(ValueError, match="2 shards cannot be shared out evenly among 3"):
        list(make(memory, shard=(2, 3), uneven="drop"))


@pytest.mark.parametrize("total", [5, 40, 100])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_of_a_given_number_of_samples(memory: Place, total: int, shuffle: bool) -> None:
    put_shards(memory, [9, 1, 0, 20, 4])
    found = [keys(make(memory, shard=(rank, 3), samples=total, shuffle=shuffle)) for rank in range(3)]
    assert [len(part) for part in found] == [total // 3] * 3


def test_an_epoch_of_so_many_samples_of_none(memory: Place) -> None:
    put_shards(memory, [0, 0])
    assert list(make(memory)) == []
    with pytest.raises(ValueError, match="none of the 2 tar shards has a sample"):
        list(make(memory, samples=10))


def test_an_epoch_of_so_many_samples_that_all_fail(memory: Place) -> None:
    put_shards(memory, [3, 4])

    def fail(sample: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ValueError, match="none of the 2 tar shards has a sample that could be given"):
        list(make(memory, samples=10, transform=fail, on_error="skip"))


def test_no_shards(memory: Place) -> None:
    memory.fill({"shards/readme.txt": b"", "shards/index.json": b"{}"})
    with pytest.raises(ValueError, match=r"of 2 objects there none ends in '\.tar'"):
        make(memory)
    with pytest.raises(ValueError, match="nor any other object"):
        S3TarDataset.from_prefix("s3://bucket/none/", region="us-east-1", s3client_config=memory.config())
    with pytest.raises(ValueError, match="at least one shard"):
        S3TarDataset.from_index([], region="us-east-1")


@pytest.mark.parametrize(
    ("data", "offset", "match"),
    [
        (b"", 0, "cut off"),
        (b"no archive" * 500, 0, "no tar header"),
        (shard_of(1, 20)[:9000], 9000, "cut off"),
        (shard_of(1, 20)[: 20 * 2048], 20 * 2048, "two blocks of zeros that end one are missing"),
    ],
    ids=["empty", "text", "cut", "without an end"],
)
@pytest.mark.parametrize("listed", [True, False])
def test_bad_shards_are_named(memory: Place, data: bytes, offset: int, match: str, listed: bool) -> None:
    put_shards(memory, [1, 1, 1])
    memory.fill({"shards/001.tar": data})
    if listed:
        dataset = make(memory)
    else:
        names = [f"s3://bucket/shards/00{number}.tar" for number in range(3)]
        dataset = S3TarDataset.from_objects(names, region="us-east-1", s3client_config=memory.config())
    source = iter(dataset)
    assert next(source)["__key__"] == "000/00000"
    with pytest.raises(TarError, match=rf"s3://bucket/shards/001.tar: .*{match}.* at byte {offset}") as caught:
        list(source)
    assert (caught.value.bucket, caught.value.key, caught.value.offset) == ("bucket", "shards/001.tar", offset)
    assert pickle.loads(pickle.dumps(caught.value)).offset == offset
    assert memory.engines[-1].in_flight == 0


def test_bad_shards_may_be_skipped(memory: Place) -> None:
    put_shards(memory, [2, 5, 2])
    memory.fill({"shards/001.tar": shard_of(1, 5)[:5000]})
    dataset = make(memory, on_error="skip")
    assert keys(dataset) == every_key([2, 2, 2])
    stats = dataset.stats()
    assert (stats.skipped, stats.skipped_objects[0].key, stats.objects) == (1, "shards/001.tar", 6)


def test_transforms_may_be_skipped_or_replaced(memory: Place) -> None:
    put_shards(memory, [4])

    def fail(sample: dict[str, Any]) -> str:
        if sample["cls"] == b"2":
            raise ZeroDivisionError("two")
        return str(sample["cls"], "ascii")

    assert list(make(memory, transform=fail, on_error="skip")) == ["0", "1", "3"]
    assert list(make(memory, transform=fail, on_error=lambda item, error: f"{item.key} {error}")) == [
        "0",
        "1",
        "shards/000.tar two",
        "3",
    ]
    with pytest.raises(ZeroDivisionError, match="two") as caught:
        list(make(memory, transform=fail))
    if hasattr(caught.value, "__notes__"):
        assert any("000/00002" in note for note in caught.value.__notes__)
    assert len(list(make(memory, transform=fail, on_error="skip", samples=10))) == 10


def test_a_shard_replaced_between_two_parts_is_an_error(memory: Place) -> None:
    for listed in (True, False):
        put_shards(memory, [4], size=MIB)
        config = memory.config(window_bytes=MIB)
        dataset = (
            make(memory, config=config)
            if listed
            else S3TarDataset.from_objects("s3://bucket/shards/000.tar", region="us-east-1", s3client_config=config)
        )
        source = iter(dataset)
        next(source)
        memory.fill({"shards/000.tar": shard_of(9, 4, MIB)})
        with pytest.raises(ObjectChangedError, match=r"shards/000.tar"):
            list(source)


def test_a_missing_shard_is_an_error_at_its_place(memory: Place) -> None:
    put_shards(memory, [1])
    dataset = S3TarDataset.from_objects(
        "s3://bucket/shards/{000..001}.tar", region="us-east-1", s3client_config=memory.config()
    )
    source = iter(dataset)
    next(source)
    with pytest.raises(ObjectNotFoundError, match=r"shards/001.tar"):
        next(source)


def test_leaving_early_cancels_what_is_in_flight(memory: Place) -> None:
    put_shards(memory, [10] * 5, size=MIB // 4)
    source = iter(make(memory))
    next(source)
    assert memory.engines[-1].in_flight
    source.close()  # type: ignore[attr-defined]  # iterators of datasets are generators
    assert memory.engines[-1].in_flight == 0


def test_the_rest_of_the_window_goes_on_while_a_sample_is_consumed(memory: Place) -> None:
    put_shards(memory, [60], size=MIB // 4)
    source = iter(make(memory, config=memory.config(window_bytes=8 * MIB)))
    next(source)
    memory.events.clear()
    for _ in range(3):
        time.sleep(0.003)
        next(source)
    assert sum(event.startswith("advance") for event in memory.events) >= 3  # more where making one takes long


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{008..010}.tar", ["a-008.tar", "a-009.tar", "a-010.tar"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("a{,b}", ["a", "ab"]),
    ],
)
def test_braces(text: str, names: list[str]) -> None:
    assert list(expand_braces(text)) == names


@pytest.mark.parametrize("text", ["{", "a}", "{0..1", "{{0..1},2}", "{}", "{a}", "{3..1}", "{0..4..0}"])
def test_wrong_braces(text: str) -> None:
    with pytest.raises(ValueError, match=r"braces|expected|empty"):
        list(expand_braces(text))


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"shuffle_buffer": 0},
        {"shuffle_shards": True},
        {"samples": 0},
        {"uneven": "both"},
        {"on_error": "ignore"},
        {"shard": (2, 2)},
        {"shard": 3},
        {"transform": 3},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        S3TarDataset([S3BucketKeyData("bucket", "key.tar")], **options)


def test_wrong_names() -> None:
    for wrong in ("s3://bucket", "https://host/key", 3, [3]):
        with pytest.raises((TypeError, ValueError)):
            S3TarDataset.from_objects(wrong)  # type: ignore[arg-type]  # it is wrong


def parse(sample: dict[str, Any]) -> tuple[str, int]:
    return sample["__key__"], int(sample["cls"]) + len(sample["bin"])


@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_workers_share_out_the_shards_of_a_real_server(moto_server: MotoServer, method: str, workers: int) -> None:
    counts = [5, 3, 8, 1, 4]
    bucket = moto_server.create_bucket(f"tar-{method}-{workers}")
    server = moto_server.boto3_client()
    for number, count in enumerate(counts):
        server.put_object(Bucket=bucket, Key=f"{number:03}.tar", Body=shard_of(number, count, 70_000))
    dataset = S3TarDataset.from_prefix(
        f"s3://{bucket}",
        region=moto_server.region,
        endpoint=moto_server.endpoint,
        s3client_config=S3ClientConfig(force_path_style=True, operation_timeout=30),
        transform=parse,
        shuffle=True,
    )
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context=method, timeout=100
    )
    found = dict(loader)
    assert found == {key: int(key[-5:]) + 70_000 + int(key[-5:]) % 7 for key in every_key(counts)}
    stats = dataset.stats()
    assert stats.objects == sum(counts)
    assert stats.bytes >= sum(counts) * 70_000
