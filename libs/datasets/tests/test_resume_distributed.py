"""Ranks of a gloo group that stop in the middle of an epoch, and others that go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import torch
import torch.distributed
from libs.datasets.tests.ranks import answers_of
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from s3torch.client import S3ClientConfig
from s3torch.datasets import S3IterableDataset, Uneven, merge_states
from s3torch.readers import S3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("dummy_aws_env"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.timeout(400),  # importing torch in every process takes long on a busy machine
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
    ),
]

Answers: TypeAlias = "Queue[tuple[int, Any]]"


def key_of(reader: S3Reader) -> str:
    reader.read()
    return reader.key


def make(served: Served, uneven: Uneven = "keep") -> S3IterableDataset:
    return S3IterableDataset.from_prefix(
        served.uri,
        region=served.region,
        endpoint=served.endpoint,
        transform=key_of,
        s3client_config=S3ClientConfig(force_path_style=True, operation_timeout=30),
        shuffle=True,
        seed=3,
        uneven=uneven,
    )


def stateful(dataset: S3IterableDataset, workers: int) -> Any:
    return StatefulDataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list)


@contextmanager
def group(rank: int, ranks: int, rendezvous: str) -> Iterator[None]:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=ranks)
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def stop(rank: int, ranks: int, rendezvous: str, dataset: S3IterableDataset, state: Any, answers: Answers) -> None:
    """Be a rank with two workers that stops after two batches; go on from a state if there is one."""
    with group(rank, ranks, rendezvous):
        loader = stateful(dataset, 2)
        if state is not None:
            loader.load_state_dict(state)
        seen = [key for batch in islice(loader, 2) for key in batch]
        answers.put((rank, (seen, loader.state_dict())))
        del loader


def finish(rank: int, ranks: int, rendezvous: str, dataset: S3IterableDataset, state: Any, answers: Answers) -> None:
    """Be a rank that gives all that is left; who started the ranks may have loaded the state."""
    with group(rank, ranks, rendezvous):
        if state is not None:
            dataset.load_state_dict(state)
        answers.put((rank, list(DataLoader(dataset, batch_size=None, num_workers=1, timeout=120))))


def step_together(
    rank: int, ranks: int, rendezvous: str, dataset: S3IterableDataset, state: Any, answers: Answers
) -> None:
    """Be a rank that waits for the others after every batch, as training does."""
    with group(rank, ranks, rendezvous):
        steps = 0
        for _ in DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=list, timeout=120):
            torch.distributed.all_reduce(torch.ones(1))
            steps += 1
        answers.put((rank, steps))


def run(job: Any, ranks: int, folder: Path, dataset: S3IterableDataset, state: Any = None) -> list[Any]:
    """Run a job in processes of its own; return what each rank answers."""
    rendezvous = (folder / f"rendezvous-{job.__name__}-{ranks}-{id(state)}").as_uri()
    context = multiprocessing.get_context("spawn")
    answers: Answers = context.Queue()
    processes = [
        context.Process(target=job, args=(rank, ranks, rendezvous, dataset, state, answers)) for rank in range(ranks)
    ]
    return answers_of(processes, answers, 150)


def test_any_number_of_ranks_goes_on_from_the_state_of_the_first(served: Served, tmp_path: Path) -> None:
    first = run(stop, 2, tmp_path, make(served))
    states = [state for _, state in first]
    # As Lightning does: every rank loads the state of the first.
    second = run(stop, 2, tmp_path, make(served), states[0])
    seen = [key for keys, _ in first + second for key in keys]
    merged = merge_states(second[0][1])
    assert merge_states([state for _, state in second]) == merged
    last = make(served)
    last.load_state_dict(merged)
    rest = run(finish, 3, tmp_path, last)
    assert sorted(map(len, rest)) == sorted(map(len, run(finish, 3, tmp_path, make(served), merged)))
    assert max(map(len, rest)) - min(map(len, rest)) <= 1
    assert sorted(seen + [key for keys in rest for key in keys]) == list(served.objects)


@pytest.mark.parametrize(("ranks", "uneven"), [(2, "pad"), (3, "drop")])
def test_ranks_that_step_together_end_together(served: Served, tmp_path: Path, ranks: int, uneven: Uneven) -> None:
    steps = run(step_together, ranks, tmp_path, make(served, uneven))
    each = len(served.objects) // (2 * ranks) + (uneven == "pad")
    assert steps == [2 * -(-each // 2)] * ranks
