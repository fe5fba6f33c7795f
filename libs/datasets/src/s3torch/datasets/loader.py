"""`S3StatefulDataLoader`: a loader that stops anywhere, and goes on with any number of workers and ranks."""

from __future__ import annotations

from typing import Any

from s3torch.datasets._epoch_dataset import EpochDataset
from s3torch.datasets.resume import find_states, merge_states

try:
    from torchdata.stateful_dataloader import StatefulDataLoader
except ImportError as error:
    raise ImportError(
        "S3StatefulDataLoader needs torchdata: pip install 's3torch-datasets[resume]'", name="torchdata"
    ) from error

__all__ = ["S3StatefulDataLoader"]

_BEFORE = "batches_before"


class S3StatefulDataLoader(StatefulDataLoader):  # type: ignore[misc]  # torchdata has no types
    """torchdata's ``StatefulDataLoader`` with two things more for an `S3IterableDataset`; arguments are the same.

    Its state can be loaded with another number of workers or ranks: exactly the samples follow that have not been
    given. And it has an exact length if the dataset has an index. Lightning looks a batch ahead into loaders without,
    and that batch would be missing after resuming.
    """

    _before = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch, those given before it was interrupted included.

        Raises:
            TypeError: The dataset has no index.
        """
        if not isinstance(self.dataset, EpochDataset):
            return int(super().__len__())
        batches = self.dataset.count_batches(
            batch_size=self.batch_size, num_workers=self.num_workers, drop_last=self.drop_last
        )
        return batches + (self._before if self.dataset.has_begun else 0)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the loader has come."""
        return {**super().state_dict(), _BEFORE: self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a state had come to, with whatever number of workers and ranks.

        Args:
            state_dict: What `state_dict` returned, here or on any other rank that stepped alike.
        """
        state = dict(state_dict)
        self._before = int(state.pop(_BEFORE, 0))
        states = list(find_states(state)) if isinstance(self.dataset, EpochDataset) else []
        if not states:
            super().load_state_dict(state)
            return
        alike = ("_snapshot" in state) == (self.num_workers > 0) and all(
            self.dataset.goes_on_alike(each, self.num_workers) for each in states
        )
        super().load_state_dict(state if alike else {})
        if state["_iterator_finished"]:
            self._before = 0
            return
        if len(states) == states[0]["workers"]:  # without sharding each worker goes on by itself
            self.dataset.load_state_dict(merge_states(states))
        if not alike:
            self._before += int(state["_snapshot"]["_snapshot_step"] if "_snapshot" in state else state["_num_yielded"])
