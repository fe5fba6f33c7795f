"""What all laws of a dataset share: the subject, what it declares of itself, and the samples it is to give."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
from torch.utils.data import DataLoader

from s3torch.harness.conformance._laws import StartingLaws
from s3torch.harness.conformance.arrangement import Arrangement, make_bytes

__all__ = [
    "OBJECTS",
    "PREFIX",
    "DatasetLaws",
    "MakeDataset",
    "load",
    "make_bucket",
    "open_sockets",
]

PREFIX = "train/"
OBJECTS: Mapping[str, bytes] = {
    f"{PREFIX}{name}": make_bytes(size, number)
    for number, (name, size) in enumerate(
        sorted(
            {
                **{f"{number:02}": 1000 + 97 * number for number in range(9)},
                "": 3,
                "z": 19,
                "empty": 0,
                "a b+c%20": 7,
                "large": 700_000,
                "ä/ö": 20,
                "\ufffd": 21,
                "😀": 22,
            }.items(),
            key=lambda item: item[0].encode(),
        )
    )
}
"""What the laws store below `PREFIX`, in the order of a listing; as many as no number of workers divides."""

_LOADER_SECONDS = 120


class MakeDataset(Protocol):
    """How a suite makes its subjects."""

    def __call__(self, bucket: str, prefix: str, transform: Callable[[Any], Any], *, share: bool = False) -> Any:
        """Make a dataset of the objects below a prefix, in the order of a listing.

        Args:
            bucket: The bucket; it may be one that does not exist.
            prefix: Only keys that begin so.
            transform: Makes a sample of what it is given: something with ``key`` and ``read()``.
            share: Share the objects out among ranks and workers; only asked of iterable datasets.

        Returns:
            A new dataset.
        """
        ...


def make_bucket(arrangement: Arrangement) -> str:
    """Make a bucket with `OBJECTS` and a few beside them, and return its name."""
    bucket = arrangement.create_bucket()
    for key, data in {**OBJECTS, "train": b"before", "trainee/1": b"after", "validation/1": b"other"}.items():
        arrangement.put(bucket, key, data)
    return bucket


class DatasetLaws(StartingLaws):
    """Fixtures to supply and capabilities to declare; see `MapDatasetConformance`, `IterableDatasetConformance`."""

    reads_ahead: ClassVar[int] = 64
    """Objects that the dataset at hand may hold ahead of the one it gave last."""
    long_listing: ClassVar[int] = 1100
    """Objects of the longest listing; 0 spares a slow server, and skips the law that needs more than a page."""

    @pytest.fixture
    def make_dataset(self) -> MakeDataset:
        """A function that makes the subject."""
        raise NotImplementedError("supply the fixture 'make_dataset'")

    @pytest.fixture
    def bucket(self, arrangement: Arrangement) -> str:
        """A bucket with `OBJECTS` and a few beside them."""
        return make_bucket(arrangement)

    def samples(self, dataset: Any) -> Iterator[Any]:
        """Give the samples of a dataset one after the other, as its style has it."""
        raise NotImplementedError


def load(dataset: Any, workers: int, method: str | None = None, **options: Any) -> list[list[Any]]:
    """Return the batches of one epoch of a `DataLoader`, each a list of samples."""
    with warnings.catch_warnings():
        # Of more workers than cores; and of forking beside threads, which is what is tested.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        loader = DataLoader(
            dataset,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context=method,
            timeout=_LOADER_SECONDS if workers else 0,
            **{"batch_size": 4, **options},
        )
        try:
            return list(loader)
        except BaseException as error:
            # What the error refers to would keep the workers alive, and a later collection wait five seconds for each.
            traceback.clear_frames(error.__traceback__)
            raise


def open_sockets() -> int | None:
    """Return how many sockets this process has open; None where the system does not tell."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return None
    count = 0
    for descriptor in list(folder.iterdir()):
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except OSError:  # the one that listed them
            continue
    return count
