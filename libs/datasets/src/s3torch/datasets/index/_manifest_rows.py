"""Rows of a manifest into a chunk of an index, without a Python object for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s3torch.datasets.index._chunks import UNKNOWN, Chunk, common_prefix
from s3torch.datasets.index._etags import read_etags

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "read_rows"]

COLUMNS = frozenset({"bucket", "key", "uri", "size", "etag", "last_modified", "storage_class"})
"""The columns that are no labels."""
_SCHEME = "s3://"


def read_rows(batch: pa.RecordBatch, bucket: str | None) -> Chunk:
    """Put rows, one at least, into a chunk.

    Args:
        batch: The rows.
        bucket: Where the objects must be.

    Raises:
        ValueError: Columns are missing or of another type, a row is incomplete, or an object is in another bucket.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    head, texts = _texts(pa, batch, bucket)
    sizes = _sizes(pa, batch)
    ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    text = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.zeros(0, np.uint8)
    bounds = pc.min_max(texts).as_py()
    classes = _strings(pa, batch, "storage_class")
    names: list[str | None] = [None] * len(texts) if classes is None else classes.to_pylist()
    return Chunk(
        head,
        text,
        np.diff(ends),
        common_prefix([bounds["min"], bounds["max"]]),
        sizes,
        read_etags(_etags(pa, batch, sizes)),
        _times(pa, batch),
        names[:1] if names.count(names[0]) == len(names) else names,
    )


def _texts(pa: Any, batch: pa.RecordBatch, bucket: str | None) -> tuple[bytes, pa.LargeBinaryArray]:
    """Return what all entries begin with, and the rest of each."""
    import pyarrow.compute as pc

    keys, uris, buckets = (_strings(pa, batch, name) for name in ("key", "uri", "bucket"))
    if keys is not None and buckets is not None:
        _refuse(pc.or_(pc.equal(buckets, ""), pc.match_substring(buckets, "/")), buckets, "a row's bucket is")
        whole = pc.binary_join_element_wise(buckets, keys, pa.scalar("/", pa.large_string()))
    elif keys is not None and bucket is not None:
        whole = None
    elif uris is not None:
        _refuse(pc.invert(pc.match_substring_regex(uris, r"(?s)^s3://[^/]+/.")), uris, "a row's uri is")
        whole = pc.utf8_replace_slice(uris, 0, len(_SCHEME), "")
    else:
        raise ValueError("it needs the columns bucket and key, or uri; or key, and bucket= as an argument")
    if keys is not None:
        _refuse(pc.equal(keys, ""), keys, "a row's key is")
    if whole is None and keys is not None:
        return f"{bucket}/".encode(), keys.cast(pa.large_binary())
    if bucket is not None:
        others = pc.invert(pc.starts_with(whole, f"{bucket}/"))
        if pc.any(others).as_py():
            found = whole.filter(others)[0].as_py().partition("/")[0]
            raise ValueError(
                f"it names objects in bucket {found!r}, but {bucket!r} is expected: "
                "give the bucket that it was made for, or make it anew"
            )
    first = whole[0].as_py().partition("/")[0] + "/"
    if pc.all(pc.starts_with(whole, first)).as_py():
        return first.encode(), pc.utf8_replace_slice(whole, 0, len(first), "").cast(pa.large_binary())
    return b"", whole.cast(pa.large_binary())


def _strings(pa: Any, batch: pa.RecordBatch, name: str) -> pa.Array | None:
    if name not in batch.schema.names:
        return None
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    are_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(is_text(kind) for is_text in are_text):
        raise ValueError(f"its column {name!r} must hold text, not {kind}")
    column = column.cast(pa.large_string())
    if column.null_count and name in ("key", "uri", "bucket"):
        raise ValueError(f"its column {name!r} must have a value in every row")
    return column


def _refuse(are_wrong: pa.BooleanArray, values: pa.Array, what: str) -> None:
    import pyarrow.compute as pc

    if pc.any(are_wrong).as_py():
        raise ValueError(f"{what} {values.filter(are_wrong)[0].as_py()!r}, which cannot be")


def _sizes(pa: Any, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    if "size" not in batch.schema.names:
        return np.full(batch.num_rows, UNKNOWN, np.int64)
    column = batch.column("size")
    if not (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise ValueError(f"its column 'size' must hold integers, not {column.type}")
    given = column.cast(pa.int64())
    sizes: npt.NDArray[np.int64] = given.fill_null(0).to_numpy().copy()
    if (sizes < 0).any():
        raise ValueError(f"it has an object of {int(sizes.min())} bytes")
    sizes[given.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
    return sizes


def _etags(pa: Any, batch: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> list[str]:
    """Return entity tags with their quotes, which other programs leave out; none where nothing is known."""
    column = _strings(pa, batch, "etag")
    if column is None:
        return [""] * batch.num_rows
    return [
        "" if etag is None or size == UNKNOWN else etag if not etag or etag[-1] == '"' else f'"{etag}"'
        for etag, size in zip(column.to_pylist(), sizes.tolist(), strict=True)
    ]


def _times(pa: Any, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    if "last_modified" not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int64)
    column = batch.column("last_modified")
    if not (pa.types.is_timestamp(column.type) or pa.types.is_null(column.type)):
        raise ValueError(f"its column 'last_modified' must hold timestamps, not {column.type}")
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    seconds = column.cast(pa.timestamp("s", tz=zone), safe=False).cast(pa.int64())
    times: npt.NDArray[np.int64] = seconds.fill_null(0).to_numpy()
    return times
