"""`S3ReaderConstructor`: how a reader is chosen, as a value that goes to workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from s3torch.readers.dcp_optimized import DCPOptimizedS3Reader, check_gap
from s3torch.readers.item_ranges import DEFAULT_MAX_GAP_SIZE, ItemRange, check_item_ranges
from s3torch.readers.protocol import (
    DCPS3ReaderConstructorProtocol,
    GetObjectInfoCallable,
    GetStreamCallable,
    S3ReaderConstructorProtocol,
)
from s3torch.readers.ranged import RangedS3Reader, check_buffer_size
from s3torch.readers.reader import S3Reader
from s3torch.readers.sequential import SequentialS3Reader

__all__ = ["DCPOptimizedConstructor", "S3ReaderConstructor"]

_TYPE_STRINGS: dict[object, str] = {
    S3Reader: "sequential",  # calling the base gives the default
    SequentialS3Reader: "sequential",
    RangedS3Reader: "range_based",
    DCPOptimizedS3Reader: "dcp_optimized",
}


class DCPOptimizedConstructor:
    """Makes a `DCPOptimizedS3Reader` for each object whose ranges are known, a `SequentialS3Reader` for any other.

    Whoever knows the load plan (a storage reader, in ``prepare_local_plan``) calls `set_item_ranges_by_file`, and reads
    the items of each object in the order of their offsets.

    Args:
        max_gap_size: As for `DCPOptimizedS3Reader`.
    """

    def __init__(self, max_gap_size: float = DEFAULT_MAX_GAP_SIZE) -> None:
        check_gap(max_gap_size)
        self._max_gap_size = max_gap_size
        self._item_ranges: dict[str, tuple[ItemRange, ...]] = {}

    @property
    def max_gap_size(self) -> float:
        """Bytes between items that may be fetched to save a request."""
        return self._max_gap_size

    def set_item_ranges_by_file(self, item_ranges_by_file: Mapping[str, Sequence[ItemRange]]) -> None:
        """Tell which ranges of which objects will be read; forgets what was told before.

        Args:
            item_ranges_by_file: For each object's key its ranges, in any order; equal ones count once, and a key
                without ranges is read sequentially.

        Raises:
            TypeError: A key is not a str, or a range is not an `ItemRange`.
            ValueError: Two ranges of one object overlap.
        """
        checked: dict[str, tuple[ItemRange, ...]] = {}
        for key, item_ranges in item_ranges_by_file.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be str, got {type(key).__name__}")
            if item_ranges:
                checked[key] = check_item_ranges(sorted(item_ranges))
        self._item_ranges = checked

    def __call__(
        self, bucket: str, key: str, get_object_info: GetObjectInfoCallable, get_stream: GetStreamCallable
    ) -> S3Reader:
        """Make the reader of one object."""
        item_ranges = self._item_ranges.get(key)
        if item_ranges is None:
            return SequentialS3Reader(bucket, key, get_object_info, get_stream)
        return DCPOptimizedS3Reader(bucket, key, item_ranges, get_object_info, get_stream, self._max_gap_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_gap_size={self._max_gap_size}, {len(self._item_ranges)} objects)"


class S3ReaderConstructor:
    """Ways to read objects, for the ``reader_constructor`` of datasets, clients and storage readers.

    Each is a small value that pickles and makes one reader for each object.
    """

    @staticmethod
    def sequential() -> S3ReaderConstructorProtocol:
        """Read any pattern of access, ahead where it is sequential: `SequentialS3Reader`."""
        return partial(SequentialS3Reader)

    @staticmethod
    def range_based(buffer_size: int | None = None) -> S3ReaderConstructorProtocol:
        """Read exact ranges, for sparse reads of large objects: `RangedS3Reader`.

        Args:
            buffer_size: Bytes that a small read loads; None is 8 MiB, 0 turns the buffer off.

        Raises:
            TypeError: It is not an int.
            ValueError: It is negative.
        """
        check_buffer_size(buffer_size)
        return partial(RangedS3Reader, buffer_size=buffer_size)

    @staticmethod
    def dcp_optimized(max_gap_size: float = DEFAULT_MAX_GAP_SIZE) -> DCPS3ReaderConstructorProtocol:
        """Read the items of a distributed checkpoint's load plan: `DCPOptimizedS3Reader`.

        Objects whose ranges were not told are read by `SequentialS3Reader`.

        Args:
            max_gap_size: Largest gap between items, in bytes, that may be fetched to save a request; 32 MiB by default.

        Raises:
            TypeError: It is not a number.
            ValueError: It is negative.
        """
        return DCPOptimizedConstructor(max_gap_size)

    @staticmethod
    def default() -> S3ReaderConstructorProtocol:
        """Read as `sequential` does."""
        return S3ReaderConstructor.sequential()

    @staticmethod
    def get_reader_type_string(constructor: S3ReaderConstructorProtocol | None) -> str:
        """Name a constructor's kind, as the user agent tells it.

        Args:
            constructor: Made by this class, a reader class, or anything else; None is the default.

        Returns:
            ``sequential``, ``range_based``, ``dcp_optimized`` or ``unknown``.
        """
        if constructor is None:
            return "sequential"
        if isinstance(constructor, DCPOptimizedConstructor):
            return "dcp_optimized"
        made = constructor.func if isinstance(constructor, partial) else constructor
        try:
            return _TYPE_STRINGS.get(made, "unknown")
        except TypeError:  # a constructor that cannot be hashed
            return "unknown"
