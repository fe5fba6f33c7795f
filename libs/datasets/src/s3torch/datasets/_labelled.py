"""Objects with the label that a manifest gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s3torch.client import S3BucketKeyData
from s3torch.datasets.index import S3Index

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LabelColumn", "LabelledItem"]


class LabelledItem(S3BucketKeyData):
    """One object of a dataset, and its label."""

    label: Any


class LabelColumn:
    """One column of an index's labels, which gives each object its own.

    Args:
        index: The index.
        name: The column's name.

    Raises:
        KeyError: There is no such column.
    """

    def __init__(self, index: S3Index, name: str) -> None:
        self._index = index
        self._name = name
        self._values: pa.ChunkedArray | None = index.labels(name)

    def items(self, positions: npt.NDArray[np.int64]) -> Iterator[S3BucketKeyData]:
        """Give some objects of the index with their labels.

        Args:
            positions: Their positions in the index.
        """
        if self._values is None:
            self._values = self._index.labels(self._name)
        labels = self._values.take(positions).to_pylist()
        return _attach(self._index.items(positions), labels)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the view, which would be a copy."""
        return {**self.__dict__, "_values": None}


def _attach(items: Iterable[S3BucketKeyData], labels: list[Any]) -> Iterator[LabelledItem]:
    for item, label in zip(items, labels, strict=True):
        labelled = LabelledItem(*item)
        labelled.label = label
        yield labelled
