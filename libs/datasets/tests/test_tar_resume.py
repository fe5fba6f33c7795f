"""Going on after a stop: with the same consumers sample for sample, with others exactly what is left."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.datasets.tests.tars import MIB, every_key, keys, make, put_shards, shard_of
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from s3torch.client import S3ClientConfig
from s3torch.datasets._progress import Consumed
from s3torch.datasets._sharding import Shard
from s3torch.datasets.resume import merge_states
from s3torch.datasets.tar import S3TarDataset
from s3torch.datasets.tar._state import Base, OpenShard, TarState

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

    from s3torch.harness.servers import MotoServer


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value, int | str) for value in state.values())
    result: dict[str, Any] = json.loads(json.dumps(state))
    return result


@pytest.mark.parametrize("seed", range(210))
def test_what_is_left_is_given_once_to_any_number_of_consumers(memory: Place, seed: int) -> None:
    """0 lost, 0 doubled: several stops in a row, each with another number of consumers that stop anywhere."""
    draw = random.Random(seed)
    counts = [draw.choice([0, 1, 2, 5, 13, 40]) for _ in range(draw.randint(1, 12))]
    if not any(counts):
        counts[0] = 3
    put_shards(memory, counts, size=draw.choice([10, 600]))
    shuffle = draw.random() < 0.7
    epoch = draw.randint(0, 3)

    def options() -> dict[str, Any]:
        # The order is the epoch's; how much is mixed at a time may change at every stop.
        return {
            "shuffle": shuffle,
            "seed": seed,
            "shuffle_buffer": draw.choice([1, 3, 8, 1000]),
            "shuffle_shards": draw.choice([1, 2, 4, 7]),
            "config": memory.config(window_bytes=draw.choice([2048, MIB])),
        }

    given_out: Counter[str] = Counter()
    state: dict[str, Any] | None = None
    for stop in range(draw.randint(1, 4)):
        world = draw.randint(1, 6)
        common = options()
        states = []
        for rank in range(world):
            dataset = make(memory, shard=(rank, world), **common)
            dataset.set_epoch(epoch)
            if state is not None:
                dataset.load_state_dict(state)
            taken = draw.choice([0, 1, 7, 30, 1000])
            given_out.update(keys(list(islice(dataset, taken))))
            states.append(through_json(dataset.state_dict()))
        draw.shuffle(states)
        state = through_json(merge_states(states))
        assert sum(given_out.values()) == state["base_samples"], stop
    world = draw.randint(1, 6)
    common = options()
    for rank in range(world):
        dataset = make(memory, shard=(rank, world), **common)
        dataset.load_state_dict(state or {})
        given_out.update(keys(list(dataset)))
    assert given_out == Counter(every_key(counts))


@pytest.mark.parametrize("seed", range(40))
def test_the_same_consumers_go_on_in_the_same_order(memory: Place, seed: int) -> None:
    draw = random.Random(seed)
    put_shards(memory, [draw.choice([0, 1, 5, 13, 40]) for _ in range(8)])
    world = draw.randint(1, 3)
    options: dict[str, Any] = {
        "shuffle": draw.random() < 0.8,
        "shuffle_buffer": draw.choice([1, 8, 1000]),
        "shuffle_shards": draw.choice([1, 2, 4]),
        "shard": (draw.randrange(world), world),
        "uneven": draw.choice(["keep", "drop", "pad"]),
        "samples": draw.choice([None, None, 120]),
    }
    whole = keys(list(make(memory, **options)))
    found: list[str] = []
    state: dict[str, Any] | None = None
    while True:
        dataset = make(memory, **options)
        if state is not None:
            dataset.load_state_dict(state)
        some = keys(list(islice(dataset, draw.randint(1, 30))))
        found += some
        if not some:
            break
        state = through_json(dataset.state_dict())
    assert found == whole


def test_reading_goes_on_at_the_first_sample_that_is_left(memory: Place) -> None:
    put_shards(memory, [40], size=100_000)
    dataset = make(memory)
    list(islice(dataset, 30))
    state = dataset.state_dict()
    memory.fill({})
    again = make(memory)
    again.load_state_dict(state)
    assert keys(list(again)) == every_key([40])[30:]
    requests = memory.engines[-1].requests
    assert min(request.start or 0 for request in requests) > 30 * 100_000
    assert len(json.dumps(state)) < 400


def test_a_state_stays_small(memory: Place) -> None:
    put_shards(memory, [300] * 12)
    dataset = make(memory, shuffle=True, shuffle_buffer=1000)
    for _ in islice(dataset, 1500):
        assert len(json.dumps(dataset.state_dict())) < 450


def test_another_rank_goes_on_from_the_state_of_one(memory: Place) -> None:
    """Lightning keeps the state of rank 0 alone."""
    put_shards(memory, [20, 30, 10, 40, 25, 35])
    whole = [keys(list(make(memory, shuffle=True, shard=(rank, 2)))) for rank in range(2)]
    first = make(memory, shuffle=True, shard=(0, 2))
    list(islice(first, 27))
    state = first.state_dict()
    for rank in range(2):
        dataset = make(memory, shuffle=True, shard=(rank, 2))
        dataset.load_state_dict(state)
        assert keys(list(dataset)) == whole[rank][27:]
    dataset = make(memory, shuffle=True, shard=(0, 3))
    dataset.load_state_dict(state)
    with pytest.raises(ValueError, match=r"one of 2 consumers .* now there are 3: .*merge_states"):
        list(dataset)


def test_the_last_state_of_an_epoch_leaves_nothing(memory: Place) -> None:
    put_shards(memory, [3, 4])
    dataset = make(memory, shuffle=True)
    list(dataset)
    again = make(memory, shuffle=True)
    again.load_state_dict(dataset.state_dict())
    assert list(again) == []
    assert len(list(again)) == 7  # the next epoch, in the same order as nobody has set another
    again.load_state_dict(dataset.state_dict())
    again.set_epoch(1)
    assert len(list(again)) == 7


def test_a_state_before_the_first_sample(memory: Place) -> None:
    put_shards(memory, [3, 4])
    dataset = make(memory)
    again = make(memory)
    again.load_state_dict(dataset.state_dict())
    assert again.state_dict() == dataset.state_dict()
    assert keys(list(again)) == every_key([3, 4])
    dataset.set_epoch(5)
    assert dataset.state_dict()["epoch"] == 5


def test_samples_that_are_skipped_are_not_given_again(memory: Place) -> None:
    put_shards(memory, [20])

    def fail(sample: dict[str, Any]) -> str:
        if int(sample["cls"]) % 3 == 1:
            raise ZeroDivisionError
        return str(sample["__key__"])

    dataset = make(memory, transform=fail, on_error="skip", samples=12)
    found = list(islice(dataset, 5))
    state = dataset.state_dict()
    assert (state["samples"], state["skipped"]) == (7, 2)
    again = make(memory, transform=fail, on_error="skip", samples=12)
    again.load_state_dict(merge_states([state]))
    found += list(again)
    assert found == [key for key in every_key([20]) if int(key[-5:]) % 3 != 1][:12]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_sample_whose_transform_failed_comes_again(memory: Place, shuffle: bool) -> None:
    put_shards(memory, [5, 5, 5])
    whole = keys(list(make(memory, shuffle=shuffle)))
    broken: set[str] = set()

    def fail(sample: dict[str, Any]) -> str:
        if sample["__key__"] in broken:
            raise ZeroDivisionError
        return str(sample["__key__"])

    for key in whole:
        broken.add(key)
        dataset = make(memory, shuffle=shuffle, transform=fail)
        found: list[str] = []
        with pytest.raises(ZeroDivisionError):
            found.extend(dataset)  # keeps what came before the error
        broken.clear()
        assert len(found) == whole.index(key)
        dataset.load_state_dict(dataset.state_dict())
        assert found + list(dataset) == whole


def test_states_of_something_else_are_refused(memory: Place) -> None:
    put_shards(memory, [3, 4])
    dataset = make(memory)
    state = dataset.state_dict()
    with pytest.raises(ValueError, match="another order"):
        make(memory, shuffle=True).load_state_dict(state)
    with pytest.raises(TypeError, match="a state is a dict"):
        dataset.load_state_dict("state")  # type: ignore[arg-type]  # it is wrong
    with pytest.raises(ValueError, match="no state of an S3TarDataset"):
        dataset.load_state_dict({"epoch": 3})
    for name, value in [("ahead", "xyz"), ("open", "1,2,x"), ("index", 7), ("epoch", None), ("position", -1)]:
        with pytest.raises(ValueError, match="damaged"):
            dataset.load_state_dict({**state, name: value})
    memory.fill({"shards/002.tar": shard_of(2, 1)})
    with pytest.raises(ValueError, match="another dataset: it had 2 shards, this one has 3"):
        make(memory).load_state_dict(state)
    memory.store.remove("bucket", ["shards/002.tar"])
    memory.fill({"shards/001.tar": shard_of(7, 1)})
    with pytest.raises(ValueError, match=r"sizes or ETags of the shards have changed \(fingerprint"):
        make(memory).load_state_dict(state)


def test_states_that_do_not_belong_together_are_refused(memory: Place) -> None:
    put_shards(memory, [3, 4])
    zero, one, other = (make(memory, shard=(rank, 2)).state_dict() for rank in (0, 1, 1))
    assert merge_states([one, zero])["count"] == 1
    with pytest.raises(ValueError, match="no state"):
        merge_states([])
    with pytest.raises(ValueError, match=r"consumers \[1\] of 2 are missing"):
        merge_states([zero])
    with pytest.raises(ValueError, match="two states of one"):
        merge_states([zero, one, other])
    with pytest.raises(ValueError, match="differ in their epoch"):
        merge_states([zero, {**one, "epoch": 1}])
    with pytest.raises(ValueError, match="of 2 and 3 consumers"):
        merge_states([zero, make(memory, shard=(1, 3)).state_dict()])


_opened = st.lists(st.builds(OpenShard, *[st.integers(0, 2**63)] * 7)).map(tuple)


@given(
    base=st.builds(Base, st.sets(st.integers(0, 99)).map(Consumed.of), _opened, st.integers(0)),
    opened=_opened,
    seed=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
)
def test_states_survive_as_numbers_and_strings(base: Base, opened: tuple[OpenShard, ...], seed: int | None) -> None:
    state = TarState(3, seed, "0123456789abcdef", 100, base, Shard(2, 5), 7, opened, 11, 1)
    assert TarState.from_dict(through_json(state.to_dict())) == state


def key_of(sample: dict[str, Any]) -> str:
    return str(sample["__key__"])


# Torchdata calls what torch has given up.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

COUNTS = [15, 4, 22, 9, 1, 13]


@pytest.fixture(scope="module")
def bucket(moto_server: MotoServer) -> str:
    name = moto_server.create_bucket("tar-resume")
    server = moto_server.boto3_client()
    for number, count in enumerate(COUNTS):
        server.put_object(Bucket=name, Key=f"{number:03}.tar", Body=shard_of(number, count, 2000))
    return name


@pytest.fixture
def served(moto_server: MotoServer, bucket: str, dummy_aws_env: None) -> S3TarDataset:
    return S3TarDataset.from_prefix(
        f"s3://{bucket}",
        region=moto_server.region,
        endpoint=moto_server.endpoint,
        s3client_config=S3ClientConfig(force_path_style=True, operation_timeout=30),
        transform=key_of,
        shuffle=True,
        shuffle_buffer=16,
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 5])
def test_stateful_data_loaders(served: S3TarDataset, workers: int, stop: int) -> None:
    def load() -> StatefulDataLoader[Any]:
        return StatefulDataLoader(served, batch_size=4, num_workers=workers, timeout=100 if workers else 0)

    served.set_epoch(stop)
    whole = list(load())
    loader = load()
    source = iter(loader)
    found = [next(source) for _ in range(stop)]
    state = loader.state_dict()
    del source
    loader = load()
    loader.load_state_dict(state)
    assert found + list(loader) == whole
    assert sorted(key for batch in whole for key in batch) == every_key(COUNTS)
    assert sorted(key for batch in loader for key in batch) == every_key(COUNTS)  # and the next epoch is whole


def test_other_numbers_of_workers_go_on(served: S3TarDataset) -> None:
    served.set_epoch(7)
    loader = StatefulDataLoader(served, batch_size=4, num_workers=2, timeout=100)
    source = iter(loader)
    found = [key for _ in range(6) for key in next(source)]
    merged = merge_states(loader.state_dict())
    del source
    served.load_state_dict(merged)
    plain: DataLoader[Any] = DataLoader(served, batch_size=None, num_workers=1, timeout=100)
    rest = list(plain)
    assert sorted(found + rest) == every_key(COUNTS)
    assert sorted(plain) == every_key(COUNTS)  # the state counts for one epoch
    with pytest.raises(RuntimeError, match="StatefulDataLoader"):
        served.state_dict()


def test_workers_that_live_on_learn_of_the_epoch(served: S3TarDataset) -> None:
    loader: DataLoader[Any] = DataLoader(served, batch_size=None, num_workers=1, persistent_workers=True, timeout=100)
    orders = []
    for epoch in (0, 1, 0):
        served.set_epoch(epoch)
        orders.append(list(loader))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == every_key(COUNTS)
