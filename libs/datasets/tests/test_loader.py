"""`S3StatefulDataLoader`: any number of workers and ranks goes on, and the length is exact."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.datasets import S3IterableDataset
from s3torch.datasets.loader import S3StatefulDataLoader
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

pytestmark = [
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="only forks share a store in memory"
    ),
    # StatefulDataLoader 0.11 asks torch for what newer versions no longer like to be asked for.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # Python 3.12 warns of any fork beside threads, such as torch's own, which hold none of our locks.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

COUNT = 37
KEYS = [f"{index:03}" for index in range(COUNT)]


def key_of(reader: S3Reader) -> str:
    reader.read()
    return reader.key


def make(memory: Place, workers: int, batch_size: int = 3, *, drop_last: bool = False, **options: Any) -> Any:
    if not memory.events:
        memory.fill({key: key.encode() for key in KEYS})
    dataset = S3IterableDataset.from_prefix(
        "s3://bucket",
        region="us-east-1",
        transform=key_of,
        s3client_config=memory.config(),
        **{"shuffle": True, **options},
    )
    return S3StatefulDataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        drop_last=drop_last,
        multiprocessing_context="fork" if workers else None,
        collate_fn=list,
    )


def flat(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"uneven": "pad"}], ids=str)
def test_the_length_is_the_number_of_batches(memory: Place, workers: int, options: dict[str, Any]) -> None:
    loader = make(memory, workers, batch_size=4, **options)
    length = len(loader)
    assert len(list(loader)) == length == len(loader)
    source = iter(loader)
    list(islice(source, 2))
    state = loader.state_dict()
    again = make(memory, workers, batch_size=4, **options)
    again.load_state_dict(state)
    assert len(again) == length
    assert len(list(again)) == length - 2
    assert len(again) == length


@pytest.mark.parametrize("sizes", [[0, 2, 2, 3], [3, 1, 2], [2, 2, 0, 2]], ids=str)
def test_other_workers_go_on_again_and_again(memory: Place, sizes: list[int]) -> None:
    seen: list[str] = []
    state: dict[str, Any] = {}
    given = 0
    for workers in sizes:
        loader = make(memory, workers)
        loader.load_state_dict(state)
        length = len(loader)
        seen += flat(islice(iter(loader), 2))
        given += 2
        state = loader.state_dict()
    last = make(memory, sizes[-1])
    last.load_state_dict(state)
    assert len(last) == length
    rest = list(last)
    assert sorted(seen + flat(rest)) == KEYS
    assert len(rest) + given == length
    assert sorted(flat(last)) == KEYS  # the next epoch is a whole one


def test_other_ranks_go_on(memory: Place) -> None:
    before = [make(memory, 2, shard=(rank, 2)) for rank in range(2)]
    seen = [key for loader in before for key in flat(islice(iter(loader), 3))]
    state = before[0].state_dict()
    for rank in range(3):
        loader = make(memory, 2, shard=(rank, 3))
        loader.load_state_dict(state)
        seen += flat(loader)
    assert sorted(seen) == KEYS


def test_a_loader_that_had_ended_begins_the_next_epoch(memory: Place) -> None:
    loader = make(memory, 2)
    list(loader)
    for workers in (0, 2, 3):
        again = make(memory, workers)
        again.load_state_dict(loader.state_dict())
        assert sorted(flat(again)) == KEYS


def test_without_an_index_a_loader_has_no_length_but_goes_on(memory: Place) -> None:
    for workers in (0, 2):
        loader = make(memory, workers, shuffle=False)
        with pytest.raises(TypeError, match="index=True"):
            len(loader)
        whole = list(loader)
        source = iter(loader)
        list(islice(source, 3))
        again = make(memory, workers, shuffle=False)
        again.load_state_dict(loader.state_dict())
        assert list(again) == whole[3:]


def test_other_datasets_are_left_to_torchdata() -> None:
    loader = S3StatefulDataLoader(list(range(10)), batch_size=2)
    assert len(loader) == 5
    source = iter(loader)
    next(source)
    again = S3StatefulDataLoader(list(range(10)), batch_size=2)
    again.load_state_dict(loader.state_dict())
    assert [batch.tolist() for batch in again] == [[2, 3], [4, 5], [6, 7], [8, 9]]


def test_without_torchdata_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['torchdata'] = None; import s3torch.datasets.loader"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 's3torch-datasets[resume]'" in done.stderr
