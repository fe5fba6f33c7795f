"""Which epoch a dataset is in, how far this process has come in it, and what is known of its workers."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from s3torch.datasets._epoch_state import EpochState
from s3torch.datasets._order import check_epoch
from s3torch.datasets._sharding import Consumer

__all__ = ["Epochs", "Progress"]

_EPOCH, _WORKERS, _RANKS, _SLOTS = 0, 1, 2, 3
_MOST_CONSUMERS = 2**14
"""A byte for each worker. Few enough that torch copies them in one thread: threads do not survive a fork."""


class Progress:
    """How far one iterator has come."""

    __slots__ = ("start", "taken")

    def __init__(self, start: EpochState) -> None:
        self.start = start
        self.taken = start.taken[0]

    def state(self) -> EpochState:
        """Return the state as things stand."""
        return replace(self.start, taken=(self.taken,))


class Epochs:
    """The epochs of one dataset, in all its copies: forks and what multiprocessing hands to workers share a memory."""

    def __init__(self) -> None:
        self._cells = torch.zeros(_SLOTS + _MOST_CONSUMERS // 8, dtype=torch.int64).share_memory_()
        self._former: torch.Tensor | None = None
        self._owner = os.getpid()
        self._loaded: EpochState | None = None
        self._own = 0  # the worker process that loaded it for itself
        self._once: int | None = None
        self._progress: Progress | None = None

    @property
    def epoch(self) -> int:
        """The epoch that iterating begins, unless a state says otherwise."""
        return int(self._cells[_EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterations; progress in another one is forgotten, progress in it is not.

        A worker that is told chooses for itself, and for its next iteration only.
        """
        check_epoch(epoch)
        if get_worker_info() is not None:
            self._once = epoch  # what one worker is told is not for the others
            return
        self._claim()
        state = self._progress.start if self._progress is not None else self._loaded
        if epoch != (self.epoch if state is None else state.epoch):
            self._forget()
        self._cells[_EPOCH] = epoch
        if self._former is not None:
            self._former[_EPOCH] = epoch  # this process's workers may have been started before

    def load(self, state: EpochState) -> None:
        """Let the next iteration go on from a state."""
        alone = get_worker_info() is not None
        if not alone:
            self._claim()
            self._forget()
            self._cells[_EPOCH] = state.epoch
        self._loaded, self._own, self._once, self._progress = state, os.getpid() if alone else 0, None, None

    def begin(self, fresh: EpochState, consumer: Consumer) -> Progress:
        """Begin an iteration.

        A state that was loaded counts for one iteration: of this process, or of each worker of one `DataLoader`.

        Args:
            fresh: The dataset, with nothing of its epoch consumed.
            consumer: Who iterates.

        Returns:
            Where it begins; counts from there on.
        """
        first = self._note(consumer)
        state, self._loaded = self._loaded, None
        epoch, self._once = self.epoch if self._once is None else self._once, None
        if state is None or not (self._own == os.getpid() or (first and state.epoch == epoch)):
            state = replace(fresh, epoch=epoch)
        group = consumer.group
        self._progress = Progress(state.continued(group.world_size, consumer.shares, group.rank, consumer.share))
        return self._progress

    def state(self, fresh: EpochState) -> EpochState:
        """Return how far the latest iterator of this process has come.

        Args:
            fresh: The dataset, with nothing of its epoch consumed.

        Raises:
            RuntimeError: The iterators are in workers.
        """
        if self._progress is not None:
            return self._progress.state()
        if int(self._cells[_WORKERS]) > 1:
            raise RuntimeError(
                "the workers of a DataLoader iterate this dataset, and this process does not know how far their "
                "samples have come: use torchdata's StatefulDataLoader and its state_dict(), or "
                "s3torch.datasets.state_after(loader, batches)"
            )
        return self._loaded or replace(fresh, epoch=self.epoch)

    def start(self, fresh: EpochState) -> EpochState:
        """Return where the present iteration has begun, here or in workers."""
        if self._progress is not None:
            return self._progress.start
        if self._loaded is not None and int(self._slots().max()) <= 1:
            return self._loaded
        return replace(fresh, epoch=self.epoch)

    def _note(self, consumer: Consumer) -> bool:
        """Count an iteration; tell whether it is the first of this worker, of the first loader that iterates."""
        self._claim()
        group, cells, slots = consumer.group, self._cells, self._slots()
        slot = (consumer.worker + max(1, consumer.workers) * group.rank) % _MOST_CONSUMERS
        same = int(cells[_WORKERS]) in (0, consumer.workers + 1) and int(cells[_RANKS]) in (0, group.world_size)
        first = same and not slots[slot]
        if not int(cells[_WORKERS]):
            cells[_RANKS], cells[_WORKERS] = group.world_size, consumer.workers + 1
        slots[slot] = min(int(slots[slot]) + 1, 255)
        return first

    def _slots(self) -> npt.NDArray[np.uint8]:
        """Return how often each consumer has begun, as far as it matters."""
        cells: npt.NDArray[np.int64] = self._cells.numpy()
        return cells[_SLOTS:].view(np.uint8)

    def _claim(self) -> None:
        """Have a memory of one's own, if this is a process that may start workers: ranks that share one disagree."""
        if self._owner != os.getpid() and get_worker_info() is None:
            self._former, self._cells = self._cells, self._cells.clone().share_memory_()
            self._owner = os.getpid()

    def _forget(self) -> None:
        self._loaded = self._progress = None
        self._cells.numpy()[_WORKERS:] = 0

    def __getstate__(self) -> dict[str, Any]:
        self._claim()
        return {**self.__dict__, "_former": None, "_own": 0, "_once": None, "_progress": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._cells.is_shared():  # a plain pickle has made it of bytes
            self._cells.share_memory_()
