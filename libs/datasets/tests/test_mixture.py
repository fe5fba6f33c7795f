"""A mixture draws by weight, the same each time, and goes on exactly where it was interrupted."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import pytest
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from s3torch.datasets import S3IterableDataset, S3MapDataset, S3MixtureDataset, merge_states
from s3torch.datasets.tar import S3TarDataset
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place


class Numbers(IterableDataset[Any]):
    """Samples ``(name, epoch, number)``, sharded over workers, with a state."""

    def __init__(self, name: str, length: int) -> None:
        self.name = name
        self.length = length
        self.epoch = 0
        self.taken = 0
        self.loaded: dict[str, Any] | None = None
        self.closed = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        loaded, self.loaded = self.loaded, None
        self.taken = 0
        if loaded is not None:
            self.epoch, self.taken = loaded["epoch"], loaded["taken"]
        return self.samples()

    def samples(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        try:
            for number in range(first + step * self.taken, self.length, step):
                self.taken += 1
                yield (self.name, self.epoch, number)
        finally:
            self.closed += 1

    def state_dict(self) -> dict[str, Any]:
        return self.loaded or {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = dict(state)


class Plain(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


Stop = Literal["first", "all", "repeat"]


def mix(*lengths: int, weights: Any = None, seed: int = 0, stop: Stop = "all") -> S3MixtureDataset:
    return S3MixtureDataset(
        [Numbers("abcdef"[n], length) for n, length in enumerate(lengths)], weights, seed=seed, stop=stop
    )


def test_samples_come_in_proportion_to_the_weights() -> None:
    dataset = mix(20_000, 20_000, 20_000, weights=[1, 2, 5], stop="first")
    assert dataset.weights == (0.125, 0.25, 0.625)
    found = Counter(name for name, *_ in dataset)
    assert max(found.values()) == found["c"] == 20_000
    total = sum(found.values())
    for name, share in zip("abc", dataset.weights, strict=True):
        assert abs(found[name] / total - share) < 5 * (share * (1 - share) / total) ** 0.5


def test_draws_are_the_same_everywhere_for_ever() -> None:
    names = "".join(name for name, *_ in mix(9, 9, 9, weights=[3, 2, 1], seed=7))
    assert names == "aaacacaabcabaabcbbbbcbbcccc"


def test_each_dataset_keeps_its_own_order() -> None:
    found: dict[str, list[int]] = {"a": [], "b": []}
    for name, _, number in mix(50, 20):
        found[name].append(number)
    assert found == {"a": list(range(50)), "b": list(range(20))}


def test_seed_and_epoch_make_other_draws() -> None:
    dataset = mix(50, 50)
    draws = set()
    for seed in range(3):
        for epoch in range(3):
            dataset = mix(50, 50, seed=seed)
            dataset.set_epoch(epoch)
            samples = list(dataset)
            assert {sample[1] for sample in samples} == {epoch}
            draws.add("".join(name for name, *_ in samples))
            again = mix(50, 50, seed=seed)
            again.set_epoch(epoch)
            assert list(again) == samples == list(again)
    assert len(draws) == 9


def test_first_ends_with_the_first_that_has_ended() -> None:
    dataset = mix(5, 1000, stop="first")
    found = Counter(name for name, *_ in dataset)
    assert found["a"] == 5
    assert found["b"] < 100
    assert [child.closed for child in dataset.datasets if isinstance(child, Numbers)] == [1, 1]


def test_all_gives_every_sample_once() -> None:
    for lengths in ((3, 30, 0), (0, 0), (1,), (10, 10)):
        samples = list(mix(*lengths, weights=[10.0**-n for n in range(len(lengths))]))
        assert sorted(samples) == [("abc"[n], 0, i) for n, length in enumerate(lengths) for i in range(length)]


def test_next_to_no_weight_is_drawn_when_nothing_else_is_left() -> None:
    assert len(list(mix(5, 5, weights=[1, 1e-300]))) == 10


def test_repeat_begins_anew_until_all_have_ended() -> None:
    dataset = mix(4, 50, 0, stop="repeat")
    found = list(dataset)
    assert [number for name, _, number in found if name == "b"] == list(range(50))
    small = [(epoch, number) for name, epoch, number in found if name == "a"]
    assert len(small) > 30
    assert len({epoch for epoch, _ in small}) > 7  # another epoch each time
    assert [number for _, number in small] == [n % 4 for n in range(len(small))]
    assert list(mix(0, 0, stop="repeat")) == []


@pytest.mark.parametrize("stop", ["first", "all", "repeat"])
def test_stopped_anywhere_it_goes_on_with_the_rest(stop: Stop) -> None:
    source = random.Random(3)
    for seed in range(25):
        lengths = [source.choice([0, 1, 5, 30]) for _ in range(3)] if stop != "first" else [30, 20, 10]
        weights = [source.choice([0.5, 1, 2]) for _ in lengths]
        whole = mix(*lengths, weights=weights, seed=seed, stop=stop)
        whole.set_epoch(seed % 3)
        expected = list(whole)
        found: list[Any] = []
        state: dict[str, Any] | None = None
        interruptions = 0
        while interruptions < 1000:
            dataset = mix(*lengths, weights=weights, seed=seed, stop=stop)
            if state is not None:
                dataset.load_state_dict(pickle.loads(pickle.dumps(state)))
                assert dataset.state_dict() == state
            else:
                dataset.set_epoch(seed % 3)
            steps = source.randrange(1, 12)
            samples = iter(dataset)
            for sample in samples:
                found.append(sample)
                steps -= 1
                if not steps:
                    break
            else:
                break
            state = dataset.state_dict()
            interruptions += 1
        assert found == expected
        assert list(dataset)[:1] == expected[:1]  # the next epoch begins anew


def test_a_finished_epoch_stays_finished() -> None:
    dataset = mix(5, 50, stop="first")
    list(dataset)
    twin = mix(5, 50, stop="first")
    twin.load_state_dict(dataset.state_dict())
    assert list(twin) == []
    assert len(list(twin)) > 5


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own
@pytest.mark.parametrize(("workers", "stop"), [(0, "first"), (0, "all"), (1, "all"), (2, "repeat")])
def test_a_stateful_loader_resumes_it(workers: int, stop: Stop) -> None:
    def load() -> Any:
        return StatefulDataLoader(mix(40, 13, 3, weights=[3, 2, 1], stop=stop), batch_size=4, num_workers=workers)

    expected = [str(batch) for batch in load()]
    for after in (1, 4, len(expected) - 1) if not workers else (3,):
        loader = load()
        found = []
        for batch in loader:
            found.append(str(batch))
            if len(found) == after:
                break
        state = loader.state_dict()
        again = load()
        again.load_state_dict(state)
        found += [str(batch) for batch in again]
        assert found == expected


@pytest.mark.parametrize("persistent", [False, True])
def test_epochs_reach_workers(persistent: bool) -> None:
    dataset = mix(20, 20)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=persistent)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        samples = [tuple(sample) for sample in loader]
        assert len(set(samples)) == 40
        epochs.append("".join(name for name, *_ in samples))
    assert len(set(epochs)) == 2


def test_a_state_that_was_loaded_before_workers_began_counts_for_one_epoch() -> None:
    dataset = mix(20, 20)
    samples = iter(dataset)
    first = [next(samples) for _ in range(15)]
    state = dataset.state_dict()
    again = mix(20, 20)
    again.load_state_dict(state)
    loader = DataLoader(again, batch_size=None, num_workers=1)
    assert [*first, *map(tuple, loader)] == list(mix(20, 20))
    assert len(list(loader)) == 40


def test_workers_draw_in_ways_of_their_own() -> None:
    found: dict[int, str] = {}
    for number, sample in enumerate(DataLoader(mix(60, 60), batch_size=None, num_workers=2)):
        found[number % 2] = found.get(number % 2, "") + sample[0]
    assert found[0] != found[1]


def test_mistakes_fail_at_once() -> None:
    for make in (
        lambda: S3MixtureDataset([]),
        lambda: mix(1, 1, weights=[1]),
        lambda: mix(1, 1, weights=[1, 0]),
        lambda: mix(1, 1, weights=[1, float("nan")]),
        lambda: mix(1, stop="never"),  # type: ignore[arg-type]  # the mistake
        lambda: mix(1, seed=-1),
        lambda: mix(1).set_epoch(-1),
        lambda: mix(1).load_state_dict({"kind": "objects"}),
        lambda: mix(1).load_state_dict(mix(1, 1).state_dict()),
        lambda: mix(1).load_state_dict({**mix(1).state_dict(), "drawn": "x"}),
    ):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(TypeError, match="no state_dict"):
        S3MixtureDataset([Plain()]).state_dict()
    with pytest.raises(TypeError, match="map-style"):
        S3MixtureDataset([S3MapDataset.from_objects("s3://b/k")])  # type: ignore[list-item]  # the mistake
    with pytest.raises(TypeError, match="a state is a dict"):
        mix(1).load_state_dict([])  # type: ignore[arg-type]  # the mistake


def test_datasets_without_a_state_mix_all_the_same() -> None:
    assert sorted(S3MixtureDataset([Plain(), Plain()], stop="all")) == [0, 0, 1, 1, 2, 2]


def key_of(reader: S3Reader) -> str:
    assert reader.read() == reader.key.encode()
    return reader.key


def sample_of(sample: dict[str, Any]) -> str:
    return bytes(sample["txt"]).decode()


def make_tar(names: list[str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return file.getvalue()


@pytest.fixture
def names(memory: Place) -> set[str]:
    """What a mixture of objects under two prefixes and of tar shards gives in all."""
    objects = [*(f"few/{n:02}" for n in range(9)), *(f"many/{n:03}" for n in range(60))]
    shards = {f"tar/{n}.tar": [f"s{n}-{m}" for m in range(5 + n)] for n in range(6)}
    memory.fill({**{key: key.encode() for key in objects}, **{key: make_tar(each) for key, each in shards.items()}})
    return {*objects, *(name for each in shards.values() for name in each)}


def of_s3(memory: Place, stop: Stop = "all") -> S3MixtureDataset:
    options: Any = {"region": "us-east-1", "s3client_config": memory.config(), "shuffle": True, "seed": 3}
    return S3MixtureDataset(
        [
            S3IterableDataset.from_prefix("s3://bucket/few/", transform=key_of, **options),
            S3IterableDataset.from_prefix("s3://bucket/many/", transform=key_of, **options),
            S3TarDataset.from_prefix("s3://bucket/tar/", transform=sample_of, **options),
        ],
        [1, 3, 2],
        stop=stop,
    )


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own
def test_objects_and_tar_shards_resume_with_other_numbers_of_workers(memory: Place, names: set[str]) -> None:
    plain: Any = {"batch_size": None, "multiprocessing_context": "fork"}
    source = random.Random(1)
    for workers, others in ((0, 2), (2, 0)):
        dataset = of_s3(memory)
        dataset.set_epoch(1)
        loader = StatefulDataLoader(dataset, num_workers=workers, **(plain if workers else {"batch_size": None}))
        after = source.randrange(20, 70)
        found = list(islice(loader, after))
        state = merge_states(loader.state_dict())
        again = of_s3(memory)
        again.load_state_dict(state)
        found += list(DataLoader(again, num_workers=others, **(plain if others else {"batch_size": None})))
        assert sorted(found) == sorted(names)


@pytest.mark.parametrize("stop", ["all", "repeat"])
def test_objects_and_tar_shards_go_on_in_the_same_order(memory: Place, names: set[str], stop: Stop) -> None:
    whole = of_s3(memory, stop)
    whole.set_epoch(2)
    expected = list(whole)
    assert set(expected) == names
    assert expected != sorted(expected)
    for after in (0, 1, 30, 71, len(expected)):
        first = of_s3(memory, stop)
        first.set_epoch(2)
        samples = iter(first)
        found = list(islice(samples, after))
        again = of_s3(memory, stop)
        again.load_state_dict(first.state_dict())
        found += list(again)
        assert found == expected
        again.set_epoch(2)
        assert list(again) == expected  # what began anew has left nothing behind
    small = [name for name in expected if name.startswith("few")]
    assert stop == "all" or small[:9] != small[9:18]


def test_the_main_process_does_not_know_how_far_workers_have_come(memory: Place, names: set[str]) -> None:
    dataset = of_s3(memory)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert set(loader) == names
    with pytest.raises(RuntimeError, match="StatefulDataLoader"):
        dataset.state_dict()


def test_the_state_of_one_rank_counts_for_all(memory: Place) -> None:
    objects = [*(f"few/{n:02}" for n in range(10)), *(f"many/{n:03}" for n in range(60))]
    memory.fill({key: key.encode() for key in objects})

    def of_rank(rank: int) -> S3MixtureDataset:
        options: Any = {"region": "us-east-1", "s3client_config": memory.config(), "shuffle": True, "transform": key_of}
        datasets = [
            S3IterableDataset.from_prefix(f"s3://bucket/{prefix}/", shard=(rank, 2), **options)
            for prefix in ("few", "many")
        ]
        return S3MixtureDataset(datasets, [1, 4], stop="all")

    for after in (0, 1, 17, 34):
        ranks = [of_rank(rank) for rank in range(2)]
        found = [list(islice(iter(dataset), after)) for dataset in ranks]
        assert [key.split("/")[0] for key in found[0]] == [key.split("/")[0] for key in found[1]]  # ranks draw alike
        state = ranks[0].state_dict()
        for rank in range(2):
            again = of_rank(rank)
            again.load_state_dict(state)
            found.append(list(again))
        assert sorted(key for keys in found for key in keys) == objects
