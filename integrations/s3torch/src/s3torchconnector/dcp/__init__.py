"""Distributed checkpoints, where users of the original look for them."""

try:
    import s3torch.dcp  # noqa: F401  # first: nothing below is of use without it
except ModuleNotFoundError as error:
    if error.name != "s3torch.dcp":
        raise
    raise ImportError(
        'distributed checkpoints are not installed: run pip install "s3torch[dcp]"', name=error.name
    ) from error

from s3torchconnector.dcp.s3_file_system import S3FileSystem, S3StorageReader, S3StorageWriter
from s3torchconnector.dcp.s3_prefix_strategy import (
    BinaryPrefixStrategy,
    DefaultPrefixStrategy,
    HexPrefixStrategy,
    NumericPrefixStrategy,
    RoundRobinPrefixStrategy,
    S3PrefixStrategyBase,
)

__all__ = [
    "BinaryPrefixStrategy",
    "DefaultPrefixStrategy",
    "HexPrefixStrategy",
    "NumericPrefixStrategy",
    "RoundRobinPrefixStrategy",
    "S3FileSystem",
    "S3PrefixStrategyBase",
    "S3StorageReader",
    "S3StorageWriter",
]
