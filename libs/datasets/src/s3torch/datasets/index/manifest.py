"""Manifests: an index as a file in Parquet or Arrow, on S3 or on disk, with columns of labels if there are any."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s3torch.client import PutObjectStream, S3BucketKeyData, S3Client, parse_s3_uri
from s3torch.datasets.index._building import build
from s3torch.datasets.index._chunks import Chunk
from s3torch.datasets.index._labels import Labels, import_arrow, merge_labels
from s3torch.datasets.index._manifest_rows import COLUMNS, read_rows
from s3torch.datasets.index.s3index import S3Index

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["load_manifest", "write_manifest"]

_PARQUET = (".parquet", ".pq")
_ARROW = (".arrow", ".feather", ".ipc")
_ROW_GROUP = 65_536


def load_manifest(
    source: str | os.PathLike[str], *, client: S3Client | None = None, bucket: str | None = None
) -> S3Index:
    """Make an index of a manifest: a table with a row for each object.

    Its columns are ``bucket`` and ``key``, or ``uri`` (``s3://bucket/key``) in place of both, and where they are known
    ``size`` in bytes, ``etag``, ``last_modified`` (a timestamp) and ``storage_class``. All further columns are kept
    for `S3Index.labels`. An object whose size is missing is one of which nothing is known.

    Args:
        source: ``s3://bucket/key`` or a path. What ends in ``.parquet`` or ``.pq`` is Parquet; in ``.arrow``,
            ``.feather`` or ``.ipc``, Arrow's IPC format (Feather version 2).
        client: Reads it, where it is on S3; None is one of the default configuration.
        bucket: Where its objects must be. It takes the place of a column ``bucket``, if there is none.

    Returns:
        The index, in the order of the rows.

    Raises:
        ImportError: ``pyarrow`` is not installed.
        S3Exception: It cannot be read.
        ValueError: It is no manifest, or one of another bucket.
    """
    arrow = import_arrow()
    name = os.fspath(source)
    is_parquet = _is_parquet(name)
    chunks: list[Chunk] = []
    labels: list[pa.RecordBatch] = []
    try:
        with _open(arrow, name, client) as stored:
            for batch in _batches(stored, is_parquet):
                if batch.num_rows:
                    chunks.append(read_rows(batch, bucket))
                    labels.append(batch.drop_columns([column for column in batch.schema.names if column in COLUMNS]))
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, ValueError) as error:
        raise ValueError(f"{name} is not a manifest that can be used: {error}") from error
    columns = build(chunks)
    has_labels = bool(labels) and labels[0].num_columns > 0
    return S3Index(columns, labels=Labels(arrow.Table.from_batches(labels)) if has_labels else None)


def write_manifest(
    index: S3Index,
    target: str | os.PathLike[str],
    *,
    client: S3Client | None = None,
    labels: Mapping[str, Any] | None = None,
) -> None:
    """Write an index as a manifest; see `S3Index.save_manifest`."""
    arrow = import_arrow()
    name = os.fspath(target)
    is_parquet = _is_parquet(name)
    further = merge_labels(index, labels or {})
    schema = arrow.schema(
        [
            ("bucket", arrow.dictionary(arrow.int32(), arrow.string())),
            ("key", arrow.string()),
            ("size", arrow.int64()),
            ("etag", arrow.string()),
            ("last_modified", arrow.timestamp("s", tz="UTC")),
            ("storage_class", arrow.dictionary(arrow.int32(), arrow.string())),
            *((column, values.type) for column, values in further.items()),
        ]
    )
    with _create(name, client) as sink, _writer(arrow, sink, schema, is_parquet) as writer:
        for start in range(0, len(index), _ROW_GROUP):
            stop = min(start + _ROW_GROUP, len(index))
            columns = _columns(index.items(np.arange(start, stop)))
            columns += [_flat(arrow, values.slice(start, stop - start)) for values in further.values()]
            arrays = [
                column if isinstance(column, arrow.Array) else arrow.array(column, kind)
                for column, kind in zip(columns, schema.types, strict=True)
            ]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


def _columns(items: Iterator[S3BucketKeyData]) -> list[Any]:
    buckets, keys, infos = zip(*items, strict=True)
    return [
        list(buckets),
        list(keys),
        [None if info is None else info.size for info in infos],
        [None if info is None else info.etag or None for info in infos],
        [None if info is None else info.last_modified or None for info in infos],
        [None if info is None else info.storage_class for info in infos],
    ]


def _flat(arrow: Any, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(values, arrow.ChunkedArray):
        return values
    if arrow.types.is_dictionary(values.type):
        values = values.unify_dictionaries()
    flat = values.combine_chunks()
    # Older versions give chunks even so.
    return flat if isinstance(flat, arrow.Array) else arrow.concat_arrays(flat.chunks)


def _is_parquet(name: str) -> bool:
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix not in _PARQUET + _ARROW:
        known = ", ".join(_PARQUET + _ARROW)
        raise ValueError(f"the name of a manifest tells its format by its end, one of {known}: got {name!r}")
    return suffix in _PARQUET


def _batches(stored: pa.NativeFile, is_parquet: bool) -> Iterator[pa.RecordBatch]:
    if is_parquet:
        import pyarrow.parquet as pq

        yield from pq.ParquetFile(stored).iter_batches(_ROW_GROUP)
        return
    import pyarrow.ipc

    with pyarrow.ipc.open_file(stored) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


@contextmanager
def _open(arrow: Any, name: str, client: S3Client | None) -> Iterator[pa.NativeFile]:
    if name.startswith("s3://"):
        # Whole, in parallel parts: Arrow would read from threads of its own, piece by piece.
        uri = parse_s3_uri(name)
        yield arrow.BufferReader((client or S3Client()).read(uri.bucket, uri.key))
    else:
        with arrow.memory_map(name) as stored:
            yield stored


class _Sink(io.RawIOBase):
    """An upload as the file that Arrow writes to; whoever opened the upload ends it."""

    def __init__(self, stream: PutObjectStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write(data)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _create(name: str, client: S3Client | None) -> Iterator[Any]:
    """Give the file to write to; it is there when all is written, and not before."""
    if name.startswith("s3://"):
        uri = parse_s3_uri(name)
        with (client or S3Client()).put_stream(uri.bucket, uri.key) as stream:
            yield _Sink(stream)
        return
    partial = Path(f"{name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(name)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _writer(arrow: Any, sink: Any, schema: pa.Schema, is_parquet: bool) -> Iterator[Any]:
    if is_parquet:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            yield writer
    else:
        with arrow.ipc.new_file(sink, schema, options=arrow.ipc.IpcWriteOptions(compression="zstd")) as writer:
            yield writer
