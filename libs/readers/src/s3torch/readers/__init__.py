"""Objects in S3 as files: sequential, ranged, and by a distributed checkpoint's plan."""

from s3torch.readers._torch_calls import is_from_archive_reader
from s3torch.readers.constructor import DCPOptimizedConstructor, S3ReaderConstructor
from s3torch.readers.dcp_optimized import DCPOptimizedS3Reader, UnsupportedSeekError
from s3torch.readers.item_ranges import DEFAULT_MAX_GAP_SIZE, ItemRange, RangeGroup
from s3torch.readers.opening import ReaderClient, open_reader
from s3torch.readers.protocol import (
    ByteStream,
    DCPS3ReaderConstructorProtocol,
    GetObjectInfoCallable,
    GetStreamCallable,
    RangeStream,
    S3ReaderConstructorProtocol,
)
from s3torch.readers.ranged import RangedS3Reader
from s3torch.readers.reader import S3Reader
from s3torch.readers.sequential import SequentialS3Reader

__all__ = [
    "DEFAULT_MAX_GAP_SIZE",
    "ByteStream",
    "DCPOptimizedConstructor",
    "DCPOptimizedS3Reader",
    "DCPS3ReaderConstructorProtocol",
    "GetObjectInfoCallable",
    "GetStreamCallable",
    "ItemRange",
    "RangeGroup",
    "RangeStream",
    "RangedS3Reader",
    "ReaderClient",
    "S3Reader",
    "S3ReaderConstructor",
    "S3ReaderConstructorProtocol",
    "SequentialS3Reader",
    "UnsupportedSeekError",
    "is_from_archive_reader",
    "open_reader",
]
