"""`S3MixtureDataset`: samples of several datasets, drawn by weight."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch.utils.data import IterableDataset, get_worker_info

from s3torch.datasets._mixing import Draws, MixtureProgress, check_weights
from s3torch.datasets._order import check_epoch, check_seed

__all__ = ["MixtureStop", "S3MixtureDataset"]

MixtureStop: TypeAlias = Literal["first", "all", "repeat"]
"""When a mixture's epoch ends; see `S3MixtureDataset`."""

# Epochs of a dataset that begins anew within one epoch of the mixture: far from those that anyone counts.
_ROUND = 2**32
_END = object()
# Of the shared memory: the epoch, the mark of the workers that have gone on from the state that was loaded, and whether
# any worker has begun.
_EPOCH, _MARK, _HAS_WORKERS = 0, 1, 2


class S3MixtureDataset(IterableDataset[Any]):
    """Samples of several datasets, each drawn at random in proportion to its weight.

    Which dataset each draw takes follows from seed, epoch and the ``DataLoader`` worker alone, so ranks draw alike, and
    an interrupted epoch goes on with the same draws. What a dataset gives when it is drawn is its own affair: its
    order, its shard of ranks and workers, its window of objects in flight.

    Args:
        datasets: The datasets: `S3IterableDataset`, `S3TarDataset`, or any ``IterableDataset``. To resume, each needs
            ``state_dict`` and ``load_state_dict``.
        weights: How often each is drawn, relative to the others; None draws all alike.
        seed: Of the draws.
        stop: When an epoch ends. ``"first"``: when a dataset that has ended is drawn. ``"all"``: when all have ended;
            each gives all its samples once, and those that have ended are drawn no more. ``"repeat"``: when all have
            ended at least once; those that end earlier begin anew, in the order of another epoch if they have
            ``set_epoch``.

    Raises:
        TypeError: A dataset is none that can be iterated, or an argument has another type.
        ValueError: There is no dataset, a weight is not positive, or their numbers differ.
    """

    def __init__(
        self,
        datasets: Sequence[IterableDataset[Any]],
        weights: Sequence[float] | None = None,
        *,
        seed: int = 0,
        stop: MixtureStop = "first",
    ) -> None:
        self._datasets = tuple(datasets)
        if not self._datasets:
            raise ValueError("a mixture needs at least one dataset")
        for number, dataset in enumerate(self._datasets):
            if not isinstance(dataset, IterableDataset):
                raise TypeError(
                    f"dataset {number} of a mixture must be an IterableDataset, got {type(dataset).__name__}: a "
                    "map-style dataset is drawn from by index, with a weighted sampler"
                )
        self._weights = check_weights(weights, len(self._datasets))
        if stop not in get_args(MixtureStop):
            raise ValueError(f"stop must be 'first', 'all' or 'repeat', got {stop!r}")
        check_seed(seed)
        self._seed = seed
        self._stop = stop
        # In shared memory, so that workers see what the main process sets, and it and they what others have done.
        self._shared = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._pending: _Loaded | None = None
        self._run: _Run | _Loaded | None = None

    @property
    def datasets(self) -> tuple[IterableDataset[Any], ...]:
        """The datasets."""
        return self._datasets

    @property
    def weights(self) -> tuple[float, ...]:
        """Their weights, with the sum 1."""
        return self._weights

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, here and in every dataset that has ``set_epoch``.

        Args:
            epoch: The epoch, from 0.
        """
        check_epoch(epoch)
        self._shared[_EPOCH] = epoch
        if self._pending is not None and self._pending.progress.epoch != epoch:
            self._pending = None
        if self._run is not None and self._run.progress.epoch != epoch:
            self._run = None
        for dataset in self._datasets:
            _set_epoch(dataset, epoch)

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator of samples; it goes on where a state that was loaded had come to."""
        worker = get_worker_info()
        if worker is not None:
            self._shared[_HAS_WORKERS] = 1
        loaded = self._take_pending()
        if loaded is not None and loaded.progress.ended:
            self._run = replace(loaded, pid=os.getpid())
            return iter(())
        run = self._run = self._begin(loaded)
        # All begin here, not with their first draw: the states of all tell of this epoch from now on.
        run.iterators = [iter(dataset) for dataset in run.datasets]
        return self._draw(run, 0 if worker is None else worker.id)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the latest iteration in this process has come: the own counters and the datasets' states.

        Raises:
            TypeError: A dataset has no state.
            RuntimeError: Workers of a ``DataLoader`` iterate, and this process does not. Ask the ``state_dict`` of a
                ``StatefulDataLoader``.
        """
        for number in range(len(self._datasets)):
            self._check_has(number, "state_dict")
        run = self._run
        if run is not None and run.pid == os.getpid():
            return run.state()
        if self._pending is not None:
            return self._pending.state()
        if get_worker_info() is None and int(self._shared[_HAS_WORKERS]):
            raise RuntimeError(
                "the workers of a DataLoader iterate this mixture, and only they know how far they have come: use "
                "torchdata's StatefulDataLoader and its state_dict()"
            )
        return self._begin(None).state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the next iteration go on where a state was taken; the one after it begins an epoch anew.

        Args:
            state: What `state_dict` returned. Weights may be others than they were: the samples that are left are the
                same.

        Raises:
            TypeError: It is no mapping, or a dataset takes no state.
            ValueError: It is the state of something else, or of other datasets.
        """
        progress = MixtureProgress.from_dict(state, len(self._datasets))
        for number in range(len(self._datasets)):
            self._check_has(number, "load_state_dict")
        loaded = _Loaded(progress, list(state["datasets"]), os.getpid())
        # What is wrong with a dataset's state is to be said now, where saying so leaves nothing behind in the dataset.
        for dataset, child in zip(self._datasets, loaded.states, strict=True):
            if (twin := _detach(dataset)) is not dataset:
                twin.load_state_dict(child)  # type: ignore[attr-defined]  # looked for above
        self._pending, self._run = loaded, None
        if get_worker_info() is None:
            self._shared[:] = torch.tensor([progress.epoch, 0, 0])

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what an iteration here has come to."""
        return {**self.__dict__, "_run": None}

    def _take_pending(self) -> _Loaded | None:
        """Return the state that was loaded, if this iteration is the one that goes on from it.

        Copies of a state that was loaded before workers were started go to the workers of every epoch; those of one
        have a seed in common, and the first ones take it.
        """
        pending, self._pending = self._pending, None
        worker = get_worker_info()
        if pending is None or worker is None or pending.pid == os.getpid():
            return pending
        mark = (worker.seed - worker.id) % 2**62 + 1
        if int(self._shared[_MARK]) in (0, mark) and pending.progress.epoch == int(self._shared[_EPOCH]):
            self._shared[_MARK] = mark
            return pending
        return None

    def _begin(self, loaded: _Loaded | None) -> _Run:
        """Prepare the datasets for an iteration in this process, from a state or from the epoch's beginning."""
        if loaded is None:
            progress = MixtureProgress.fresh(int(self._shared[_EPOCH]), len(self._datasets))
        else:
            progress = loaded.progress.copy()
        run = _Run(progress, [_detach(dataset) for dataset in self._datasets], os.getpid())
        for number, dataset in enumerate(run.datasets):
            if loaded is not None:
                dataset.load_state_dict(loaded.states[number])  # type: ignore[attr-defined]  # looked for before
            else:
                _set_epoch(dataset, progress.epoch)
        return run

    def _check_has(self, number: int, name: str) -> None:
        dataset = self._datasets[number]
        if not callable(getattr(dataset, name, None)):
            raise TypeError(
                f"dataset {number} of the mixture, a {type(dataset).__name__}, has no {name}(): a mixture resumes as "
                "far as its datasets do"
            )

    def _draw(self, run: _Run, worker: int) -> Iterator[Any]:
        progress, iterators = run.progress, run.iterators
        draws = Draws(self._weights, self._seed, progress.epoch, worker)
        alive = [True] * len(iterators)
        try:
            while any(alive):
                number, progress.drawn = draws.next(progress.drawn, alive)
                sample = next(iterators[number], _END)
                if sample is _END and self._stop == "repeat":
                    sample = self._begin_anew(run, number)
                if sample is not _END:
                    # Counted before it is handed out: who then asks for the state has this sample.
                    yield sample
                    del sample  # nobody else should hold it while the next one is made
                elif self._stop == "first" or (self._stop == "repeat" and all(progress.finished)):
                    break
                else:
                    alive[number] = False
        finally:
            for iterator in iterators:
                if (close := getattr(iterator, "close", None)) is not None:
                    close()  # what is in flight ends now, not when somebody collects the iterator
        progress.ended = True

    def _begin_anew(self, run: _Run, number: int) -> Any:
        """Note that a dataset has ended and let it begin once more; return its first sample, if it has one."""
        progress = run.progress
        progress.finished[number] = True
        if all(progress.finished):
            return _END
        progress.rounds[number] += 1
        dataset = run.datasets[number] = _detach(self._datasets[number])
        _set_epoch(dataset, progress.epoch + progress.rounds[number] * _ROUND)
        run.iterators[number] = iter(dataset)
        return next(run.iterators[number], _END)


@dataclass(frozen=True)
class _Loaded:
    """A state that was loaded."""

    progress: MixtureProgress
    states: list[Any]
    """Of the datasets."""
    pid: int
    """Of the process that loaded it."""

    def state(self) -> dict[str, Any]:
        """Return it as it was."""
        return {**self.progress.to_dict(), "datasets": self.states}


@dataclass
class _Run:
    """One iteration."""

    progress: MixtureProgress
    datasets: list[IterableDataset[Any]]
    pid: int
    """Of the process that iterates: a forked child has not."""
    iterators: list[Iterator[Any]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Return how far it has come."""
        states = [dataset.state_dict() for dataset in self.datasets]  # type: ignore[attr-defined]  # looked for before
        return {**self.progress.to_dict(), "datasets": states}


def _detach(dataset: IterableDataset[Any]) -> IterableDataset[Any]:
    """Return a copy of a dataset whose epoch is this process's own affair; the dataset itself if it shares none."""
    detach = getattr(dataset, "_detached", None)
    return dataset if detach is None else detach()


def _set_epoch(dataset: IterableDataset[Any], epoch: int) -> None:
    if (set_epoch := getattr(dataset, "set_epoch", None)) is not None:
        set_epoch(epoch)
