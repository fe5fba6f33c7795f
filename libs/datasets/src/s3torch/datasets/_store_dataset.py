"""What every dataset shares that reads from a store: the client that reads, and the meter that counts."""

from __future__ import annotations

import multiprocessing

from s3torch.datasets._bar import check_bar
from s3torch.datasets._meter import Meter
from s3torch.datasets.stats import DatasetStats
from s3torch.readers import ReaderClient

__all__ = ["StoreDataset"]

# Asking without allow_none would fix the method for the whole program. The platform's own comes first in the list.
_DEFAULT_START_METHOD = multiprocessing.get_all_start_methods()[0]


class StoreDataset:
    """Samples of what lies in a store; pickles as configuration, without connections.

    Args:
        client: Reads.
        progress: Show a bar of progress.

    Raises:
        ImportError: A bar is wanted, and what shows it is not installed.
    """

    def __init__(self, client: ReaderClient, *, progress: bool) -> None:
        if progress:
            check_bar()
        self._client = client
        self._meter = Meter(has_bar=bool(progress))
        if (multiprocessing.get_start_method(allow_none=True) or _DEFAULT_START_METHOD) == "fork":
            self._client.preload()  # or each of a DataLoader's workers would, before its first sample

    @property
    def region(self) -> str:
        """Region of the objects; where none was given, the environment's or the profile's."""
        return self._client.region

    @property
    def endpoint(self) -> str | None:
        """The endpoint given, if any."""
        return self._client.endpoint

    def stats(self) -> DatasetStats:
        """Return what the dataset has done so far: samples, bytes, requests, time waited, what was skipped.

        Returns:
            The numbers of this process and of the ``DataLoader`` workers it was handed to, over all epochs. Those of
            another process may be a twentieth of a second old. The window is counted in objects, and in parts where
            tar shards are read.
        """
        return self._meter.read()
