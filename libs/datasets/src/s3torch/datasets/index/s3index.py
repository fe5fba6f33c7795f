"""`S3Index`: what a dataset holds, as columns that all processes share."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from s3torch.client import S3BucketKeyData, S3Client
from s3torch.datasets.index._building import build
from s3torch.datasets.index._chunks import chunks_of
from s3torch.datasets.index._columns import Columns, Positions, runs
from s3torch.datasets.index._filter import Filter
from s3torch.datasets.index._fingerprint import fingerprint
from s3torch.datasets.index._selection import Filtered, Selection, positions_of, settle, share_positions
from s3torch.datasets.index._shared import SharedArrays

if TYPE_CHECKING:
    import pyarrow as pa

    from s3torch.datasets.index._labels import Labels

__all__ = ["S3Index"]

_FEW = 512  # entries made at a time, so that the first comes soon


class S3Index(Sequence[S3BucketKeyData]):
    """Objects in order: a sequence of `S3BucketKeyData`, which makes each when it is asked for.

    What is known of the objects lies in columns, in memory that processes share: bucket and key in UTF-8, less what
    all have in common, and some 20 bytes each for size, ETag, storage class and time of last change. Forked workers
    see the same pages; to spawned ones a descriptor travels. Slices, `take` and `where` select from the same columns.

    An index does not change. Of what listings tell, it does not keep the state of restores; nor, where there are more
    than 65,535 objects, times of last change that would make an entry take more than 24 bytes beside its key: they
    are 0 then.

    Make one by `from_items`, `list_index` or `load_manifest`.
    """

    def __init__(self, columns: Columns, selection: Selection | None = None, labels: Labels | None = None) -> None:
        self._columns = columns
        self._selection: Selection = range(columns.count) if selection is None else selection
        self._labels = labels
        self._fingerprint: str | None = None

    @classmethod
    def from_items(cls, items: Iterable[S3BucketKeyData]) -> S3Index:
        """Make an index of objects.

        Args:
            items: The objects, in order, drawn as they are needed. Nothing need be known of them but bucket and key.

        Returns:
            The index.

        Raises:
            TypeError: One is no `S3BucketKeyData`.
            ValueError: One has no bucket or no key, or one that cannot be written in UTF-8.
        """
        return cls(build(chunks_of(items)))

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> S3BucketKeyData: ...

    @overload
    def __getitem__(self, index: slice) -> S3Index: ...

    def __getitem__(self, index: int | slice) -> S3BucketKeyData | S3Index:
        """Return one object, negative indices counting from the end; or an index of a slice, without a copy."""
        positions = self._positions
        if isinstance(index, slice):
            part = positions[index]
            return self._select(part if isinstance(part, range) else share_positions(part.astype(np.int64)))
        try:
            return self._columns.item(int(positions[operator.index(index)]))
        except IndexError:
            raise IndexError(f"index {index} is out of range: there are {len(positions)} objects") from None

    def __iter__(self) -> Iterator[S3BucketKeyData]:
        for run in runs(self._positions, _FEW):
            yield from self._columns.items(run)

    def items(self, positions: npt.ArrayLike) -> Iterator[S3BucketKeyData]:
        """Give many objects, faster than one by one.

        Args:
            positions: Their indices, as an array of integers from 0 to below the length.

        Returns:
            An iterator of the objects, in the order of the indices.

        Raises:
            IndexError: There is no such object.
            TypeError: They are no integers.
        """
        chosen = self._resolve(positions)
        return (item for run in runs(chosen, _FEW) for item in self._columns.items(run))

    def take(self, positions: npt.ArrayLike) -> S3Index:
        """Return an index of some of the objects, in another order perhaps; the columns are shared.

        Args:
            positions: Their indices, as an array of integers from 0 to below the length; some may come twice.

        Returns:
            The index.

        Raises:
            IndexError: There is no such object.
            TypeError: They are no integers.
        """
        return self._select(share_positions(self._resolve(positions)))

    def where(
        self,
        *,
        suffix: str | tuple[str, ...] | None = None,
        glob: str | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        predicate: Callable[[S3BucketKeyData], object] | None = None,
    ) -> S3Index:
        """Return an index of the objects that have all of what is asked; it is decided when first used or pickled.

        Args:
            suffix: What the key ends with, such as ``.jpg``; one of several where it is a tuple.
            glob: Pattern of the whole key as in `fnmatch.fnmatchcase`, where ``*`` matches slashes, too.
            min_size: Least size in bytes.
            max_size: Largest size in bytes.
            predicate: Called with each object that has all the rest; kept where it returns what is true. The slowest.

        Returns:
            The index, whose first use raises ValueError where sizes are asked of objects whose size is not known.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A size is negative.
        """
        if suffix is not None:
            suffix = (suffix,) if isinstance(suffix, str) else tuple(suffix)
            if not all(isinstance(text, str) for text in suffix):
                raise TypeError("suffix must be a str or a tuple of str")
        if glob is not None and not isinstance(glob, str):
            raise TypeError(f"glob must be a str, got {type(glob).__name__}")
        for name, size in (("min_size", min_size), ("max_size", max_size)):
            if size is not None and operator.index(size) < 0:
                raise ValueError(f"{name} must not be negative, got {size}")
        if predicate is not None and not callable(predicate):
            raise TypeError(f"predicate must be callable, got {type(predicate).__name__}")
        return self._select(Filtered(self._selection, Filter(suffix, glob, min_size, max_size, predicate)))

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """The sizes in bytes, a fresh array; -1 where nothing is known of an object."""
        pieces = [self._columns.sizes(run) for run in runs(self._positions)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    @property
    def total_size(self) -> int:
        """Bytes of all objects whose size is known."""
        return sum(
            int(np.maximum(self._columns.sizes(run), 0).sum()) for run in runs(self._positions)
        )  # a Python int: it may exceed 64 bits

    def with_labels(self, labels: Mapping[str, Any]) -> S3Index:
        """Return an index of the same objects with labels, as manifests have them; needs `pyarrow`.

        Args:
            labels: By the column's name an array, or a list, with a value for each object, all of one type. They are
                added to those there are, or replace them.

        Returns:
            The index; the columns are shared, unless only some of their objects are in this one.

        Raises:
            ImportError: ``pyarrow`` is not installed.
            ValueError: They do not fit the index.
        """
        from s3torch.datasets.index._labels import Labels, import_arrow, merge_labels

        table = import_arrow().table(merge_labels(self, labels))
        is_whole = self._settled == range(self._columns.count)
        columns = self._columns if is_whole else build(chunks_of(self))
        return S3Index(columns, labels=Labels(table))

    @property
    def label_names(self) -> list[str]:
        """Names of the columns of labels."""
        return [] if self._labels is None else self._labels.names

    def labels(self, name: str) -> pa.ChunkedArray:
        """Return a column of labels, a value for each object; needs `pyarrow`.

        Args:
            name: The column's.

        Returns:
            The values, in Arrow's type of the column; ``[i].as_py()`` is that of object ``i``, ``to_numpy()`` are all.

        Raises:
            KeyError: There is no such column.
        """
        if self._labels is None:
            raise KeyError(
                f"there is no column {name!r}: the index was not made from a manifest with labels, nor given any"
            )
        return self._labels.column(name, self._positions)

    def save_manifest(
        self,
        target: str | os.PathLike[str],
        *,
        client: S3Client | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the index as a table: bucket, key, size, ETag, time of last change, storage class, and labels.

        The rows are written in groups as they are made; the file, or the object, is there when all of it is.

        Args:
            target: ``s3://bucket/key`` or a path; ``.parquet`` or ``.pq`` at its end makes it Parquet, ``.arrow``,
                ``.feather`` or ``.ipc`` Arrow's IPC format.
            client: Writes it, where it goes to S3; None is one of the default configuration.
            labels: Further columns by name, each an array with a value for each object.

        Raises:
            ImportError: ``pyarrow`` is not installed.
            S3Exception: It cannot be written.
            ValueError: The name does not tell a format, or the labels do not fit the index.
        """
        from s3torch.datasets.index.manifest import write_manifest

        write_manifest(self, target, client=client, labels=labels)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: the same buckets, keys, sizes and ETags in the same order have the same."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self._columns, self._positions)
        return self._fingerprint

    @property
    def nbytes(self) -> int:
        """Bytes of memory, counted once for all processes and for all indexes that select from the same columns."""
        selection = self._settled
        own = 0 if isinstance(selection, range) else selection.nbytes
        return self._columns.arrays.nbytes + own + (0 if self._labels is None else self._labels.nbytes)

    def _select(self, selection: Selection) -> S3Index:
        return S3Index(self._columns, selection, self._labels)

    @property
    def _settled(self) -> range | SharedArrays:
        if isinstance(self._selection, Filtered):
            self._selection = settle(self._columns, self._selection)
        return self._selection

    @property
    def _positions(self) -> Positions:
        return positions_of(self._settled)

    def _resolve(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return positions in the columns."""
        given = np.asarray(positions)
        if given.size == 0:
            return np.zeros(0, np.int64)
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise TypeError(f"positions must be an array of integers, got {given.ndim} dimensions of {given.dtype}")
        count = len(self)
        least, most = int(given.min()), int(given.max())
        if least < 0 or most >= count:
            raise IndexError(f"position {least if least < 0 else most} is out of range: there are {count} objects")
        chosen: npt.NDArray[np.int64] = given.astype(np.int64, copy=False)
        own = self._positions
        if isinstance(own, range):
            return chosen * own.step + own.start
        taken: npt.NDArray[np.int64] = own[chosen].astype(np.int64, copy=False)
        return taken

    def __getstate__(self) -> dict[str, Any]:
        """Pickle with all filters applied: a predicate need not travel, and no worker filters again."""
        self._settled  # noqa: B018  # applies them
        return self.__dict__.copy()

    def __repr__(self) -> str:
        if isinstance(self._selection, Filtered):
            return "S3Index(filtered)"
        return f"S3Index({len(self)} objects)"
