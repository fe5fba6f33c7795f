"""Further columns of a manifest: kept as Arrow wrote them, in memory that processes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from s3torch.datasets.index._columns import Positions
from s3torch.datasets.index._manifest_rows import COLUMNS
from s3torch.datasets.index._shared import Pieces, SharedArrays

if TYPE_CHECKING:
    import pyarrow as pa

    from s3torch.datasets.index.s3index import S3Index

__all__ = ["Labels", "import_arrow", "merge_labels"]


def import_arrow() -> Any:
    """Return `pyarrow`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError("manifests need pyarrow: pip install 's3torch-datasets[manifest]'", name="pyarrow") from error
    return pa


def merge_labels(index: S3Index, labels: Mapping[str, Any]) -> dict[str, pa.ChunkedArray | pa.Array]:
    """Return all columns of an index's labels: those it has, and further ones, which come before its own of that name.

    Args:
        index: The index.
        labels: By name an array, or a list, with a value for each object.

    Raises:
        ImportError: `pyarrow` is not installed.
        ValueError: They do not fit the index, are called as its own columns are, or are of no type of Arrow's.
    """
    arrow = import_arrow()
    merged: dict[str, Any] = {column: index.labels(column) for column in index.label_names}
    for column, values in labels.items():
        if column in COLUMNS:
            raise ValueError(f"a column of labels cannot be called {column!r}: the manifest has one of that name")
        try:
            found = values if isinstance(values, (arrow.Array, arrow.ChunkedArray)) else arrow.array(values)
        except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
            raise ValueError(f"the labels {column!r} are not of one type that Arrow knows: {error}") from error
        if len(found) != len(index):
            raise ValueError(f"there are {len(found)} labels {column!r} for {len(index)} objects")
        merged[column] = found
    return merged


class Labels:
    """Columns of any Arrow type, one value for each entry of an index.

    Args:
        table: The columns.
    """

    def __init__(self, table: pa.Table) -> None:
        arrow = import_arrow()
        measure = arrow.MockOutputStream()
        _write(arrow, measure, table)
        # Written twice, so that it is never in memory twice.
        self._stored = SharedArrays({"stream": Pieces((measure.size(),), np.dtype(np.uint8), ())})
        _write(arrow, arrow.FixedSizeBufferWriter(arrow.py_buffer(self._stored.writable("stream"))), table)
        self._table: pa.Table | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._stored.nbytes

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self._open().column_names)

    def column(self, name: str, positions: Positions) -> pa.ChunkedArray:
        """Return the values of a column.

        Args:
            name: The column's.
            positions: Of which entries.

        Raises:
            KeyError: There is no such column.
        """
        table = self._open()
        if name not in table.column_names:
            known = ", ".join(table.column_names)
            raise KeyError(f"the manifest has no column {name!r}; its columns of labels are: {known}")
        column = table.column(name)
        if isinstance(positions, range):
            if positions == range(len(column)):
                return column
            if positions.step == 1:
                return column.slice(positions.start, len(positions))
            positions = np.arange(positions.start, positions.stop, positions.step, dtype=np.int64)
        return column.take(import_arrow().array(positions))

    def _open(self) -> pa.Table:
        """Look at the shared memory as a table; nothing is copied."""
        if self._table is None:
            arrow = import_arrow()
            self._table = arrow.ipc.open_stream(arrow.py_buffer(self._stored["stream"])).read_all()
        return self._table

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the view."""
        return {**self.__dict__, "_table": None}


def _write(arrow: Any, sink: Any, table: pa.Table) -> None:
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
