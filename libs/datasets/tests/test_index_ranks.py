"""Ranks of a gloo group that share one index: who lists, what they get, and what they raise."""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
import torch.distributed as dist
from libs.datasets.tests.ranks import answers_of

from s3torch.client import BucketNotFoundError, ObjectInfo, S3BucketKeyData, S3Client, S3ClientConfig
from s3torch.datasets import S3Index, S3IterableDataset, broadcast_index, list_index, load_manifest
from s3torch.datasets.index._building import build
from s3torch.datasets.index._chunks import make_chunk
from s3torch.datasets.index._collective import Collective
from s3torch.harness.servers import MotoServer
from s3torch.readers import S3Reader

pytestmark = [
    pytest.mark.timeout(300),  # importing torch in every process takes long on a busy machine
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo"),
]

MANY = 1_000_000
TRAIN = [f"train/{number:03}" for number in range(23)]
NO_BUCKET = "no-such-bucket"


@dataclass(frozen=True)
class Place:
    """What each rank is told."""

    bucket: str
    endpoint: str
    region: str
    folder: Path

    def client(self) -> S3Client:
        return S3Client(self.region, endpoint=self.endpoint, s3client_config=self.config)

    @property
    def config(self) -> S3ClientConfig:
        return S3ClientConfig(force_path_style=True, operation_timeout=30)

    def list(self, prefix: str, group: Any = None) -> S3Index:
        return list_index(self.client(), f"s3://{self.bucket}/{prefix}", group=group)


def found_in(index: S3Index) -> tuple[list[str], str]:
    return [item.key for item in index], index.fingerprint


def raised_by(call: Callable[[], object]) -> tuple[str, str, str]:
    """Return the type and text of an error, and the text of its cause."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told
        return type(error).__name__, str(error), str(error.__cause__ or "")
    raise AssertionError("nothing was raised")


# What ranks do, each in its turn. Each returns what the tests below look at.


def list_together(rank: int, place: Place) -> Any:
    index = place.list("train/", dist.group.WORLD)
    return *found_in(index), [item.object_info for item in index], index._columns.arrays.is_shared


def list_alone(rank: int, place: Place) -> Any:
    return found_in(place.list("alone/"))


def list_nothing(rank: int, place: Place) -> Any:
    return found_in(place.list("nothing/", dist.group.WORLD))


def list_no_bucket(rank: int, place: Place) -> Any:
    before = time.monotonic()
    raised = raised_by(lambda: list_index(place.client(), f"s3://{NO_BUCKET}/", group=dist.group.WORLD))
    return *raised, time.monotonic() - before


def ask_wrongly(rank: int, place: Place) -> Any:
    client = place.client()
    return [
        raised_by(lambda: list_index(client, "no uri", group=dist.group.WORLD)),
        raised_by(lambda: list_index(client, "s3://b/", connections=0, group=dist.group.WORLD)),
        raised_by(lambda: list_index(client, f"s3://{place.bucket}/of-{rank}/", group=dist.group.WORLD)),
        raised_by(lambda: broadcast_index(lambda: [1, 2])),  # type: ignore[arg-type,return-value]  # no index
        raised_by(lambda: broadcast_index(lambda: place.list("train/"), group=7)),  # type: ignore[arg-type]  # no group
    ]


def fail_oddly(rank: int, place: Place) -> Any:
    class LocalError(Exception):
        """Cannot be pickled."""

    class StubbornError(Exception):
        def __reduce__(self) -> Any:
            return int, ("no number",)

    def fail(error: Exception) -> S3Index:
        raise error

    errors = (KeyError("the text"), LocalError("the text"), StubbornError("the text"))
    return [raised_by(partial(broadcast_index, partial(fail, error))) for error in errors]


def list_in_subgroup(rank: int, place: Place) -> Any:
    ranks = dist.get_world_size()
    group: Any = dist.new_group(list(range(1, ranks)))
    if rank == 0:
        return raised_by(lambda: place.list("train/", group))
    made_by: list[int] = []

    def make() -> S3Index:
        made_by.append(rank)
        return place.list("train/")

    return *found_in(broadcast_index(make, group=group)), made_by


def hand_over_selection(rank: int, place: Place) -> Any:
    """Send an index with labels, filtered and in another order."""

    def make() -> S3Index:
        items = [S3BucketKeyData("b", key, ObjectInfo(key, '"odd"', size, 0)) for size, key in enumerate(TRAIN)]
        path = str(place.folder / f"{dist.get_world_size()}.parquet")
        S3Index.from_items(items).save_manifest(path, labels={"number": np.arange(len(TRAIN))})
        return load_manifest(path)[::-1].where(predicate=lambda item: item.key != TRAIN[3]).take(np.arange(20))

    index = broadcast_index(make)
    return *found_in(index), index.sizes.tolist(), index.labels("number").to_pylist()


def list_while_it_changes(rank: int, place: Place) -> Any:
    """Let the last rank ask when the first has listed, and what is there is another."""
    listed = place.folder / f"listed-{dist.get_world_size()}"
    prefix = f"changing-{dist.get_world_size()}/"
    client = place.client()

    def make() -> S3Index:
        index = place.list(prefix)
        listed.touch()
        return index

    if rank == dist.get_world_size() - 1:
        deadline = time.monotonic() + 60
        while not listed.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.put(place.bucket, f"{prefix}0", b"replaced")
        client.put(place.bucket, f"{prefix}5", b"new")
        client.delete_object(place.bucket, f"{prefix}2")
    together = broadcast_index(make)
    dist.barrier()
    return found_in(together), found_in(place.list(prefix))


def train(rank: int, place: Place) -> Any:
    dataset = S3IterableDataset.from_index(
        place.list("train/", dist.group.WORLD),
        region=place.region,
        endpoint=place.endpoint,
        s3client_config=place.config,
        transform=key_of,
        shuffle=True,
        seed=4,
    )
    return list(dataset)


def key_of(reader: S3Reader) -> str:
    reader.read()
    return reader.key


def send_through_a_stage(rank: int, place: Place) -> Any:
    """Send as from an accelerator, in pieces that are copied to where the backend takes them, and from there."""
    memory = torch.arange(100_001, dtype=torch.int32).to(torch.uint8) * (rank == 0)
    ranks = Collective(None, stage=1000)
    ranks.send(memory)
    assert ranks.send_bytes(b"few" if rank == 0 else b"") == b"few"
    assert ranks.send_bytes(b"") == b""
    return hashlib.sha256(memory.numpy().tobytes()).hexdigest()


def hand_over_many(rank: int, place: Place) -> Any:
    index = make_many() if rank == 0 else None
    dist.barrier()
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # "reset the peak resident set size" (proc(5))
    began = time.monotonic()
    index = broadcast_index(lambda: index)  # type: ignore[arg-type,return-value]  # the first rank has it
    seconds = time.monotonic() - began
    grown = resident("VmHWM") - before
    return len(index), index.nbytes, index[MANY // 3], index.fingerprint, grown, seconds


def make_many() -> S3Index:
    chunks = []
    for start in range(0, MANY, 50_000):
        numbers = range(start, start + 50_000)
        keys = [f"{number:08}/{'x' * 24}".encode() for number in numbers]
        etags = [f'"{number:032x}"' for number in numbers]
        chunks.append(make_chunk(b"b/", keys, list(numbers), etags, [0] * 50_000, ["STANDARD"] * 50_000))
    return S3Index(build(chunks))


def resident(name: str = "VmRSS") -> int:
    """Return bytes of memory that this process has, shared or not."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


ACTS: list[Callable[[int, Place], Any]] = [
    list_together,
    list_alone,
    list_nothing,
    list_no_bucket,
    ask_wrongly,
    fail_oddly,
    list_in_subgroup,
    hand_over_selection,
    list_while_it_changes,
    train,
    send_through_a_stage,
    *([hand_over_many] if sys.platform == "linux" else []),
]

Answers: TypeAlias = "Queue[tuple[int, dict[str, Any]]]"


def be_rank(rank: int, ranks: int, place: Place, answers: Answers) -> None:
    torch.set_num_threads(1)
    rendezvous = (place.folder / f"rendezvous-{ranks}").as_uri()
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=ranks)
    try:
        answers.put((rank, {act.__name__: act(rank, place) for act in ACTS}))
        dist.barrier()
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Told:
    """What all ranks have told, and what the server has been asked."""

    ranks: int
    answers: list[dict[str, Any]]
    listings: list[str]
    """The queries of all listings, in order."""

    def by(self, act: Callable[[int, Place], Any]) -> list[Any]:
        """Return what each rank has told of an act."""
        return [answers[act.__name__] for answers in self.answers]


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def told(request: pytest.FixtureRequest, moto_server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Let ranks do all acts, once for all tests."""
    ranks: int = request.param
    bucket = moto_server.create_bucket(f"ranks-{uuid.uuid4().hex}")
    server = moto_server.boto3_client()
    for key in [*TRAIN, "alone/0", *(f"changing-{ranks}/{number}" for number in range(4))]:
        server.put_object(Bucket=bucket, Key=key, Body=key.encode())
    place = Place(bucket, moto_server.endpoint, moto_server.region, tmp_path_factory.mktemp("ranks"))
    context = multiprocessing.get_context("spawn")
    answers: Answers = context.Queue()
    processes: list[Any] = [
        context.Process(target=be_rank, args=(rank, ranks, place, answers)) for rank in range(ranks)
    ]
    with pytest.MonkeyPatch.context() as patch, moto_server.recording() as requests:
        for name, value in moto_server.env().items():
            patch.setenv(name, value)
        found = answers_of(processes, answers, 200)
    listings = [each.query for each in requests if "list-type=2" in each.query]
    return Told(ranks, found, listings)


def test_ranks_get_the_index_of_one_listing(told: Told) -> None:
    first, *others = told.by(list_together)
    assert first[0] == TRAIN
    assert all(other[:3] == first[:3] for other in others)
    # Once by this act, once by each of two others; and by everyone where nobody shares.
    assert sum("prefix=train" in query for query in told.listings) == 3
    assert sum("prefix=alone" in query for query in told.listings) == told.ranks


def test_a_prefix_without_objects_is_an_empty_index(told: Told) -> None:
    assert told.by(list_nothing) == [([], told.by(list_nothing)[0][1])] * told.ranks


def test_an_error_of_the_first_rank_is_raised_on_all_at_once(told: Told) -> None:
    (kind, text, _, _), *others = told.by(list_no_bucket)
    assert kind == BucketNotFoundError.__name__
    for other, other_text, cause, seconds in others:
        assert (other, other_text) == (kind, text)
        assert "on rank 0 of the job" in cause
        assert "list_prefix" in cause, "where it was raised"
        assert seconds < 20


def test_what_is_asked_wrongly_is_an_error_on_all(told: Told) -> None:
    for rank, (malformed, connections, different, no_index, no_group) in enumerate(told.by(ask_wrongly)):
        assert malformed[:2] == told.by(ask_wrongly)[0][0][:2]
        assert malformed[0] == "ValueError"
        assert "no uri" in malformed[1]
        assert connections[:2] == ("ValueError", "connections must be at least 1, got 0")
        if rank == 0:
            assert different[0] == "RuntimeError"
            assert "another rank" in different[1]
        else:
            assert different[0] == "ValueError"
            assert "/of-0/ while this rank" in different[1]
            assert f"/of-{rank}/:" in different[1]
        assert no_index[:2] == ("TypeError", "make_index must return an S3Index, got list")
        assert no_group[:2] == ("TypeError", "group must be a torch.distributed.ProcessGroup, got int")


def test_an_error_that_cannot_be_pickled_keeps_its_text(told: Told) -> None:
    first, *others = told.by(fail_oddly)
    assert [kind for kind, _, _ in first] == ["KeyError", "LocalError", "StubbornError"]
    for plain, local, stubborn in others:
        assert plain[:2] == ("KeyError", "'the text'")
        assert local[0] == stubborn[0] == "RuntimeError"
        assert local[1].endswith("LocalError: the text")
        assert stubborn[1].endswith("StubbornError: the text")


def test_ranks_of_a_subgroup_share_and_others_get_an_error(told: Told) -> None:
    outside, first, *others = told.by(list_in_subgroup)
    assert outside[0] == "ValueError"
    assert "rank 0 is not a member of the group" in outside[1]
    assert first == (TRAIN, told.by(list_together)[0][1], [1])
    assert others == [(*first[:2], [])] * (told.ranks - 2)


def test_a_selection_with_labels_is_the_same_everywhere(told: Told) -> None:
    first, *others = told.by(hand_over_selection)
    numbers = [number for number in reversed(range(len(TRAIN))) if number != 3][:20]
    assert first[2] == first[3] == numbers
    assert first[0] == [TRAIN[number] for number in numbers]
    assert others == [first] * (told.ranks - 1)


def test_ranks_agree_about_a_bucket_that_changes(told: Told) -> None:
    (together, alone), *others = told.by(list_while_it_changes)
    name = f"changing-{told.ranks}"
    assert together[0] == [f"{name}/{number}" for number in (0, 1, 2, 3)]
    assert alone[0] == [f"{name}/{number}" for number in (0, 1, 3, 5)]
    assert all(other == (together, alone) for other in others)


def test_an_epoch_of_all_ranks_has_each_object_once(told: Told) -> None:
    shares = told.by(train)
    assert sorted(key for share in shares for key in share) == TRAIN
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_goes_through_an_accelerator_arrives(told: Told) -> None:
    expected = hashlib.sha256(bytes(number % 256 for number in range(100_001))).hexdigest()
    assert told.by(send_through_a_stage) == [expected] * told.ranks


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_objects_arrive_in_the_memory_of_their_columns(told: Told) -> None:
    (count, nbytes, item, fingerprint, grown, _), *others = told.by(hand_over_many)
    assert (count, item.key) == (MANY, f"{MANY // 3:08}/{'x' * 24}")
    assert nbytes > 40 * 2**20, "a copy would show"
    assert grown < 16 * 2**20
    for other in others:
        assert other[:4] == (count, nbytes, item, fingerprint)
        assert other[4] < nbytes + 16 * 2**20


def test_without_a_group_it_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match="init_process_group first"):
        broadcast_index(lambda: S3Index.from_items([]))


def test_a_group_of_one_is_its_own_first_rank() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        index = S3Index.from_items([S3BucketKeyData("b", "k")])
        assert broadcast_index(lambda: index) is index
        assert broadcast_index(lambda: index, group=dist.group.WORLD) is index
    finally:
        dist.destroy_process_group()
