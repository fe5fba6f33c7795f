"""Order, shards and resuming of `S3IterableDataset`, with loaders and without."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from s3torch.client import S3BucketKeyData, S3Client
from s3torch.datasets import S3IterableDataset, merge_states, state_after
from s3torch.datasets._sharding import ProcessGroup
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

COUNT = 37
OBJECTS = {f"{index:03}": f"object {index}".encode() for index in range(COUNT)}
KEYS = list(OBJECTS)

pytestmark = [
    # StatefulDataLoader 0.11 asks torch for what newer versions no longer like to be asked for.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # Python 3.12 warns of any fork beside threads, such as torch's own, which hold none of our locks.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

Make = Callable[..., S3IterableDataset]

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="a store in memory reaches only workers that are forks",
)


def key_of(reader: S3Reader) -> str:
    assert reader.read() == OBJECTS.get(reader.key, b"new")
    return reader.key


@pytest.fixture
def make(memory: Place) -> Make:
    """Makes a dataset of the objects."""
    memory.fill(OBJECTS)

    def from_prefix(**options: Any) -> S3IterableDataset:
        options.setdefault("transform", key_of)
        return S3IterableDataset.from_prefix(
            "s3://bucket", region="us-east-1", s3client_config=memory.config(window=4), **options
        )

    return from_prefix


def load(
    dataset: S3IterableDataset, workers: int = 0, batch_size: int | None = None, **options: Any
) -> DataLoader[Any]:
    """Make a loader, whose workers are forks: the objects are in memory."""
    context = "fork" if workers else None
    collate = list if batch_size else None
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context=context,
        collate_fn=collate,
        timeout=60 if workers else 0,
        **options,
    )


def stateful(dataset: S3IterableDataset, workers: int, batch_size: int = 3) -> Any:
    context = "fork" if workers else None
    return StatefulDataLoader(
        dataset, batch_size=batch_size, num_workers=workers, multiprocessing_context=context, collate_fn=list
    )


def flat(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch]


# --------------------------------------------------------------------------------------------------------------- order


def test_a_shuffled_epoch_has_every_object_once(make: Make) -> None:
    dataset = make(shuffle=True)
    first = list(dataset)
    assert sorted(first) == KEYS
    assert first != KEYS
    assert list(dataset) == first
    assert list(make(shuffle=True)) == first
    assert list(make(shuffle=True, seed=1)) != first


def test_epochs_have_orders_of_their_own(make: Make) -> None:
    dataset = make(shuffle=True)
    orders = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        assert dataset.epoch == epoch
        orders.append(tuple(dataset))
    assert len(set(orders)) == 4
    dataset.set_epoch(1)
    assert tuple(dataset) == orders[1]


def test_shards_of_any_number_have_the_same_order(make: Make) -> None:
    whole = list(make(shuffle=True, seed=5))
    for ranks in (1, 2, 3, 5):
        shards = [list(make(shuffle=True, seed=5, shard=(rank, ranks))) for rank in range(ranks)]
        assert shards == [whole[rank::ranks] for rank in range(ranks)]


def test_a_shuffled_order_is_fetched_ahead(make: Make, memory: Place) -> None:
    dataset = make(shuffle=True)
    order = list(dataset)
    memory.events.clear()
    source = iter(dataset)
    assert memory.asked == []
    next(source)
    assert memory.asked[:4] == [f"get {key}" for key in order[:4]]


def test_without_options_nothing_is_requested_and_nothing_changes(make: Make, memory: Place) -> None:
    dataset = make()
    assert memory.engines == []
    assert list(dataset) == KEYS
    memory.fill({"later": b"new"})
    assert list(dataset) == [*KEYS, "later"]


def test_with_an_index_objects_are_listed_once(make: Make, memory: Place) -> None:
    dataset = make(index=True)
    memory.fill({"later": b"new"})
    assert list(dataset) == KEYS
    assert [item.key for item in dataset.index] == KEYS
    assert list(make(index=True)) == [*KEYS, "later"]


def test_an_index_can_be_asked_for_without_changing_the_dataset(make: Make, memory: Place) -> None:
    dataset = make()
    assert len(dataset.index) == COUNT
    memory.fill({"later": b"new"})
    assert len(list(dataset)) == COUNT + 1


def test_a_dataset_of_an_index(make: Make, memory: Place) -> None:
    index = make(index=True).index
    some = S3IterableDataset.from_index(
        index[5:15], region="us-east-1", transform=key_of, s3client_config=memory.config(), shuffle=True
    )
    assert sorted(some) == KEYS[5:15]
    assert some.index.fingerprint == index[5:15].fingerprint
    with pytest.raises(TypeError, match="index must be an S3Index, got list"):
        S3IterableDataset.from_index([], region="us-east-1")  # type: ignore[arg-type]


def test_objects_that_are_named_are_shuffled_too(make: Make, memory: Place) -> None:
    uris = [f"s3://bucket/{key}" for key in ("003", "001", "003", "007")]
    dataset = S3IterableDataset.from_objects(
        uris, region="us-east-1", transform=key_of, s3client_config=memory.config(), shuffle=True
    )
    assert sorted(dataset) == ["001", "003", "003", "007"]


def test_an_empty_dataset_is_empty_however_it_is_visited(memory: Place) -> None:
    for options in ({"shuffle": True}, {"uneven": "pad"}, {"uneven": "drop"}, {"index": True}):
        dataset = S3IterableDataset.from_prefix(
            "s3://bucket", region="us-east-1", s3client_config=memory.config(), **options
        )
        assert list(dataset) == []
        dataset.load_state_dict(dataset.state_dict())
        assert list(dataset) == []


# -------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("ranks", [2, 3, 40])
def test_ranks_get_as_many_samples_as_each_other(make: Make, ranks: int) -> None:
    order = list(make(shuffle=True))
    dropped = [list(make(shuffle=True, uneven="drop", shard=(rank, ranks))) for rank in range(ranks)]
    assert {len(shard) for shard in dropped} == {COUNT // ranks}
    assert sorted(key for shard in dropped for key in shard) == sorted(order[: COUNT // ranks * ranks])
    padded = [list(make(shuffle=True, uneven="pad", shard=(rank, ranks))) for rank in range(ranks)]
    each = -(-COUNT // ranks)
    assert {len(shard) for shard in padded} == {each}
    assert Counter(key for shard in padded for key in shard) == Counter(order) + Counter(order[: each * ranks - COUNT])


def test_the_environment_names_the_rank_of_a_dataset_with_an_index(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert list(make(index=True)) == KEYS[1::3]
    assert list(make(index=True, shard=(0, 2))) == KEYS[0::2]
    assert list(make(enable_sharding=True)) == KEYS  # as in the original
    assert list(make()) == KEYS
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="RANK=3 and WORLD_SIZE=3 name no process"):
        list(make(index=True))
    monkeypatch.setenv("RANK", "")
    assert list(make(index=True)) == KEYS


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": -1, "shuffle": True}, ValueError),
        ({"uneven": "even"}, ValueError),
        ({"shard": (2, 2)}, ValueError),
        ({"shard": (-1, 2)}, ValueError),
        ({"shard": 3}, TypeError),
        ({"shard": (0.0, 2)}, TypeError),
        ({"shard": (True, 2)}, TypeError),
    ],
)
def test_bad_arguments_fail_at_once(make: Make, memory: Place, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make(**options)
    assert memory.engines == []


@forks
def test_workers_share_out_an_indexed_dataset(make: Make) -> None:
    order = list(make(shuffle=True))
    for workers in (1, 3):
        assert sorted(load(make(shuffle=True), workers)) == KEYS
        assert list(load(make(shuffle=True), workers)) == order
    assert len(list(load(make(uneven="drop"), 5))) == COUNT // 5 * 5
    assert len(list(load(make(uneven="pad"), 5))) == -(-COUNT // 5) * 5


@forks
def test_more_workers_than_samples_end(make: Make, memory: Place) -> None:
    dataset = S3IterableDataset.from_objects(
        ["s3://bucket/001", "s3://bucket/002"],
        region="us-east-1",
        transform=key_of,
        s3client_config=memory.config(),
        index=True,
    )
    assert sorted(load(dataset, 4)) == ["001", "002"]


@forks
def test_an_epoch_reaches_workers_that_live_on(make: Make) -> None:
    dataset = make(shuffle=True)
    loader = load(dataset, 2, persistent_workers=True)
    expected = []
    for epoch in range(3):
        fresh = make(shuffle=True)
        fresh.set_epoch(epoch)
        expected.append(list(fresh))
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert list(loader) == expected[epoch]


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("options", [{}, {"index": True}, {"shuffle": True, "seed": 3}], ids=str)
@pytest.mark.parametrize("stop", [0, 1, 20, COUNT - 1, COUNT])
def test_an_iteration_goes_on_where_it_was_stopped(make: Make, options: dict[str, Any], stop: int) -> None:
    whole = list(make(**options))
    dataset = make(**options)
    source = iter(dataset)
    assert list(islice(source, stop)) == whole[:stop]
    state = dataset.state_dict()
    again = make(**options)
    again.load_state_dict(state)
    assert again.state_dict() == {**state, "worker": state["worker"]}
    assert list(again) == whole[stop:]
    assert list(again) == whole  # a state counts once
    assert list(source) == whole[stop:]


@pytest.mark.parametrize("sizes", [[1, 2], [3, 1, 2], [2, 5, 1, 3]], ids=str)
def test_other_numbers_of_ranks_go_on_with_what_is_left(make: Make, sizes: list[int]) -> None:
    """Each time every rank takes a few; the state of the first stands for all."""
    seen: list[str] = []
    state = make(shuffle=True).state_dict()
    for number, ranks in enumerate(sizes):
        last = number == len(sizes) - 1
        states = []
        for rank in range(ranks):
            dataset = make(shuffle=True, shard=(rank, ranks))
            dataset.load_state_dict(state)
            seen += list(islice(iter(dataset), None if last else 4))
            states.append(dataset.state_dict())
        state = states[0]
        assert {len(str(each)) for each in states} == {len(str(state))}
        if not last:
            assert merge_states(states) == merge_states(states[0])
    assert sorted(seen) == KEYS


def test_an_epoch_that_was_set_drops_progress_in_another(make: Make) -> None:
    dataset = make(shuffle=True)
    dataset.set_epoch(2)
    source = iter(dataset)
    taken = list(islice(source, 5))
    state = dataset.state_dict()
    assert state["epoch"] == 2
    again = make(shuffle=True)
    again.load_state_dict(state)
    assert again.epoch == 2
    again.set_epoch(2)
    rest = list(again)
    assert sorted(taken + rest) == KEYS
    again.load_state_dict(state)
    again.set_epoch(3)
    assert again.state_dict()["taken"] == "0"
    assert sorted(again) == KEYS
    assert again.state_dict()["taken"] == str(COUNT)
    again.set_epoch(4)
    assert again.state_dict() == {**state, "epoch": 4, "worker": -1, "taken": "0"}


def test_skipped_objects_are_consumed_too(make: Make) -> None:
    def fail(reader: S3Reader) -> str:
        if int(reader.key) % 5 == 2:
            raise ZeroDivisionError
        return key_of(reader)

    good = [key for key in KEYS if int(key) % 5 != 2]
    for stop in (1, 2, 9, 20):
        for threads in (0, 2):
            dataset = make(transform=fail, on_error="skip", index=True, transform_workers=threads)
            source = iter(dataset)
            assert list(islice(source, stop)) == good[:stop]
            again = make(transform=fail, on_error="skip", index=True)
            again.load_state_dict(dataset.state_dict())
            assert list(again) == good[stop:]


def test_an_object_that_failed_is_tried_again(make: Make) -> None:
    broken = True

    def fail(reader: S3Reader) -> str:
        if broken and reader.key == "003":
            raise ZeroDivisionError
        return key_of(reader)

    dataset = make(transform=fail, index=True)
    with pytest.raises(ZeroDivisionError):
        list(dataset)
    again = make(transform=fail, index=True)
    again.load_state_dict(dataset.state_dict())
    broken = False
    assert list(again) == KEYS[3:]


def test_another_dataset_is_an_error_that_says_what_changed(make: Make, memory: Place) -> None:
    dataset = make(shuffle=True)
    state = dataset.state_dict()
    memory.fill({"later": b"new"})
    with pytest.raises(ValueError, match=r"has changed.*37 objects with the fingerprint .*38 objects.*from_manifest"):
        make(shuffle=True).load_state_dict(state)
    memory.store.remove("bucket", ["later"])
    make(shuffle=True).load_state_dict(state)
    memory.fill({"003": b"new"})
    with pytest.raises(ValueError, match="has changed"):
        make(shuffle=True).load_state_dict(state)
    assert dataset.state_dict() == state


def test_another_order_is_an_error(make: Make) -> None:
    state = make(shuffle=True, seed=4).state_dict()
    with pytest.raises(ValueError, match="shuffled with seed=4, and this one is shuffled with seed=0"):
        make(shuffle=True).load_state_dict(state)
    with pytest.raises(ValueError, match="and this one is not shuffled"):
        make(index=True).load_state_dict(state)
    with pytest.raises(ValueError, match=r"this one is without an index.*index=True"):
        make().load_state_dict(state)


def test_what_is_no_state_is_an_error(make: Make) -> None:
    with pytest.raises(TypeError):
        make().load_state_dict(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no state"):
        make().load_state_dict({})


def test_copies_go_on_by_themselves(make: Make) -> None:
    dataset = make(shuffle=True, transform=len_of)
    dataset._client = make()._client  # one that pickles: the recording engine does not
    for again in (copy.deepcopy(dataset._epochs), pickle.loads(pickle.dumps(dataset._epochs))):
        dataset.set_epoch(3)
        assert again.epoch == 0
        again.set_epoch(1)
        assert dataset.epoch == 3
        dataset.set_epoch(0)
        assert again._cells.is_shared()


def len_of(reader: S3Reader) -> int:
    return len(reader.read())


def resumed(dataset: S3IterableDataset, state: Any, rank: int, answers: Any, barrier: Any) -> None:
    dataset._group = ProcessGroup(rank, 2)
    if state is not None:
        dataset.load_state_dict(state)
    loader = load(dataset, 1, persistent_workers=True)
    first = list(loader)
    barrier.wait(60)
    dataset.set_epoch(1)
    answers.put((rank, first, list(loader)))


@forks
@pytest.mark.parametrize("is_loaded_before", [False, True])
def test_ranks_that_were_started_with_a_dataset_go_on_each_by_itself(make: Make, is_loaded_before: bool) -> None:
    """Each starts workers of its own, while it shares the memory of the process that made the dataset."""
    state, dataset = part_of_an_epoch(make), make(index=True)
    if is_loaded_before:
        dataset.load_state_dict(state)
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()
    barrier = context.Barrier(2)
    given = None if is_loaded_before else state
    ranks = [context.Process(target=resumed, args=(dataset, given, rank, answers, barrier)) for rank in range(2)]
    try:
        for process in ranks:
            process.start()
        found = [answers.get(timeout=60) for _ in ranks]
        for process in ranks:
            process.join(30)
    finally:
        for process in ranks:
            process.kill()
    assert sorted(key for _, first, _ in found for key in first) == KEYS[10:]
    assert sorted(key for _, _, second in found for key in second) == KEYS


# ------------------------------------------------------------------------------------------------------------- loaders


@forks
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"uneven": "pad"}, {"uneven": "drop"}], ids=str)
def test_a_stateful_loader_goes_on_as_if_nothing_had_happened(
    make: Make, workers: int, options: dict[str, Any]
) -> None:
    options = {"enable_sharding": True, **options}
    whole = list(stateful(make(**options), workers))
    for stop in (4, len(whole)):
        loader = stateful(make(**options), workers)
        source = iter(loader)
        assert list(islice(source, stop)) == whole[:stop]
        state = loader.state_dict()
        del source
        again = stateful(make(**options), workers)
        again.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert list(again) == whole[stop:]
    # One that had ended begins the next epoch.
    loader = stateful(make(**options), workers)
    assert list(loader) == whole
    again = stateful(make(**options), workers)
    again.load_state_dict(loader.state_dict())
    assert list(again) == whole


@forks
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (3, 2), (2, 3)])
def test_a_stateful_loader_goes_on_with_other_workers(make: Make, before: int, after: int) -> None:
    for stop in (1, 8):
        loader = stateful(make(shuffle=True), before)
        source = iter(loader)
        seen = flat(islice(source, stop))
        state = loader.state_dict()
        del source
        dataset = make(shuffle=True)
        dataset.load_state_dict(merge_states(state))
        again = stateful(dataset, after)
        seen += flat(islice(iter(again), 2))
        # And once more.
        last = make(shuffle=True)
        last.load_state_dict(merge_states(again.state_dict()))
        assert sorted(seen + flat(stateful(last, before))) == KEYS


@forks
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("batch_size", "drop_last"), [(3, False), (4, True), (None, False)])
def test_a_plain_loader_goes_on_by_the_number_of_batches(
    make: Make, workers: int, batch_size: int | None, drop_last: bool
) -> None:
    for stop in (0, 7):
        dataset = make(shuffle=True)
        loader = load(dataset, workers, batch_size, drop_last=drop_last)
        source = iter(loader)
        batches = list(islice(source, stop))
        seen = flat(batches) if batch_size else batches
        state = state_after(loader, stop)
        del source
        for others in (0, 2):
            again = make(shuffle=True)
            again.load_state_dict(state)
            assert sorted(seen + list(load(again, others))) == KEYS


@forks
def test_a_plain_loader_that_was_resumed_goes_on_again(make: Make) -> None:
    dataset, seen = make(shuffle=True), []
    for workers in (2, 3, 3, 0, 2):
        loader = load(dataset, workers, 2)
        seen += flat(islice(iter(loader), 2))
        state = state_after(loader, 2)
        dataset = make(shuffle=True)
        dataset.load_state_dict(state)
    seen += list(load(dataset, 2))
    assert sorted(seen) == KEYS


@forks
def test_a_state_counts_for_one_iteration_of_a_loader(make: Make) -> None:
    state = part_of_an_epoch(make)
    for workers, options in ((0, {}), (2, {}), (2, {"persistent_workers": True})):
        dataset = make(index=True)
        dataset.load_state_dict(state)
        loader = load(dataset, workers, **options)
        assert sorted(loader) == KEYS[10:]
        assert sorted(loader) == KEYS
        assert sorted(load(dataset, 3)) == KEYS


def part_of_an_epoch(make: Make) -> dict[str, Any]:
    dataset = make(index=True)
    list(islice(iter(dataset), 10))
    return dataset.state_dict()


@forks
def test_the_main_process_does_not_guess_how_far_workers_are(make: Make) -> None:
    dataset = make(index=True)
    loader = load(dataset, 2)
    assert dataset.state_dict()["taken"] == "0"
    list(loader)
    with pytest.raises(RuntimeError, match="StatefulDataLoader"):
        dataset.state_dict()
    dataset.set_epoch(1)
    assert dataset.state_dict()["epoch"] == 1


@forks
def test_one_workers_state_is_no_state_of_all(make: Make) -> None:
    loader = stateful(make(index=True), 2)
    list(islice(iter(loader), 2))
    state = loader.state_dict()["_snapshot"]["_worker_snapshots"]["worker_1"]["dataset_state"]
    dataset = make(index=True)
    dataset.load_state_dict(state)
    with pytest.raises(ValueError, match=r"worker 1 of 2 alone.*merge_states"):
        list(dataset)


def test_a_loaders_old_snapshot_is_an_error(make: Make) -> None:
    loader = StatefulDataLoader(make(index=True), batch_size=2, collate_fn=list)
    list(islice(iter(loader), 2))
    state = loader.state_dict()
    assert merge_states([state])["taken"] == "4"
    with pytest.raises(ValueError, match="snapshot_every_n_steps=1"):
        merge_states({**state, "_steps_since_snapshot": 2})
    with pytest.raises(ValueError, match="no state of a dataset"):
        merge_states({"epoch": 3, "others": ["a", None]})
    with pytest.raises(ValueError, match="'mixed' cannot be merged"):
        merge_states({"kind": "mixed"})


def test_batches_of_something_else_cannot_be_counted(make: Make) -> None:
    with pytest.raises(TypeError, match="S3IterableDataset, got that of a list"):
        state_after(DataLoader([1, 2]), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gives 37 batches"):
        state_after(load(make(index=True)), 38)
    with pytest.raises(ValueError, match="enable_sharding=True or index=True"):
        state_after(load(make(), 2), 1)
    with pytest.raises(ValueError, match="in_order"):
        state_after(load(make(index=True), 2, in_order=False), 1)


def test_a_listing_of_ones_own_is_resumed_too(memory: Place) -> None:
    memory.fill(OBJECTS)

    def listing(client: S3Client) -> Iterator[S3BucketKeyData]:
        return (S3BucketKeyData("bucket", key) for key in reversed(KEYS))

    for index in (False, True):
        dataset = S3IterableDataset("us-east-1", listing, None, key_of, memory.config(), index=index)
        list(islice(iter(dataset), 7))
        again = S3IterableDataset("us-east-1", listing, None, key_of, memory.config(), index=index)
        again.load_state_dict(dataset.state_dict())
        assert list(again) == KEYS[::-1][7:]
