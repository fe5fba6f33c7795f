"""States by hand: one of those of many workers, and what a plain `DataLoader` has consumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from torch.utils.data import DataLoader

from s3torch.datasets import _epoch_state, _mixing
from s3torch.datasets._epoch_state import EpochState
from s3torch.datasets.s3iterable_dataset import S3IterableDataset

__all__ = ["find_states", "merge_states", "state_after"]

State: TypeAlias = Mapping[str, Any]


def merge_states(states: State | Iterable[State]) -> dict[str, Any]:
    """Make one state of those of several workers or ranks, from which any number of them can go on.

    Args:
        states: States of one dataset, or whatever holds them: that of a ``StatefulDataLoader``, which no loader with
            another number of workers accepts, or a list of those of several ranks. The workers of one rank tell those
            of all, where ranks step alike; otherwise the states of all ranks are needed.

    Returns:
        A state for `S3IterableDataset.load_state_dict`, in the process that makes the new ``DataLoader``.

    Raises:
        ValueError: There are none, they do not belong together, or some are missing.
    """
    found = list(find_states(states))
    kinds = {state["kind"] for state in found}
    if not kinds:
        raise ValueError("there is no state of a dataset to merge")
    if len(kinds) > 1 or not kinds <= _MERGES.keys():
        raise ValueError(f"states of {', '.join(sorted(map(repr, kinds)))} cannot be merged")
    return _MERGES[kinds.pop()](found)


def state_after(loader: DataLoader[Any], batches: int) -> dict[str, Any]:
    """Return what is consumed once a plain `DataLoader` has given some batches of its present iteration.

    For loops without ``StatefulDataLoader``: the workers of a plain one fetch ahead, and know nothing of what has
    reached the loop; but batches come from them in turn, so their number tells.

    Args:
        loader: The loader of an `S3IterableDataset`.
        batches: How many of its batches count, since ``iter(loader)``.

    Returns:
        A state for `S3IterableDataset.load_state_dict`; that of one rank counts for all, if they step alike.

    Raises:
        TypeError: It is the loader of something else.
        ValueError: It has not so many batches, or does not give them in turn.
    """
    dataset = loader.dataset
    if not isinstance(dataset, S3IterableDataset):
        raise TypeError(f"state_after needs the loader of an S3IterableDataset, got that of a {type(dataset).__name__}")
    if loader.num_workers and not getattr(loader, "in_order", True):
        raise ValueError("a loader with in_order=False does not say whose batches it gives: leave it True")
    return dataset.state_after(
        batches, batch_size=loader.batch_size, num_workers=loader.num_workers, drop_last=loader.drop_last
    )


def find_states(states: object) -> Iterator[State]:
    """Find the states of datasets in what holds them, such as the state of a loader.

    Raises:
        ValueError: It is an old state, of before the last batches.
    """
    if isinstance(states, Mapping):
        if states.get("_steps_since_snapshot"):
            raise ValueError(
                f"the loader's state is {states['_steps_since_snapshot']} batches old: make the StatefulDataLoader "
                "with snapshot_every_n_steps=1"
            )
        if "kind" in states:
            yield states
        else:
            for value in states.values():
                yield from find_states(value)
    elif isinstance(states, Iterable) and not isinstance(states, (str, bytes)):
        for value in states:
            yield from find_states(value)


def _merge_objects(states: Iterable[State]) -> dict[str, Any]:
    return _epoch_state.merge(EpochState.from_dict(state) for state in states).to_dict()


def _merge_tar(states: Iterable[State]) -> dict[str, Any]:
    from s3torch.datasets.tar import _state

    return _state.merge([_state.TarState.from_dict(state) for state in states]).to_dict()


def _merge_mixtures(states: Iterable[State]) -> dict[str, Any]:
    return _mixing.merge(list(states), merge_states)


_MERGES: dict[str, Callable[[Iterable[State]], dict[str, Any]]] = {
    _epoch_state.KIND: _merge_objects,
    "tar": _merge_tar,
    _mixing.KIND: _merge_mixtures,
}
